"""Prompts; the first words of each are its own, so that no prefix cache knows it unless a test means it to."""

Messages = list[dict[str, str]]

QUESTIONS = (
    "Why do rivers meander?",
    "Write a haiku about a lathe.",
    "What is 17 + 25? Explain each step.",
    "Translate to French: The mill stands by the water.",
    "def fibonacci(n):\n    # complete this function",
    "Name three uses of copper.",
    "Wie entsteht ein Gewitter? Antworte auf Deutsch.",
    "List the planets from the sun outwards.",
    "Summarize: water falls on the wheel, the wheel turns the stone, the stone grinds the corn.",
    "What is the difference between a weir and a dam?",
    "¿Cuál es la capital de Perú?",
    "Explain recursion to a child.",
    'Return JSON with the keys "name" and "age" for a man of 42.',
    "Who wrote Faust?",
    "日本の首都はどこですか。",
    "How does a turbine make electricity?",
    "Give me a recipe with eggs and spinach 🍳.",
    "Continue: 1, 1, 2, 3, 5, 8,",
    "What does `git rebase` do?",
    "Tell me a story about an old miller.",
)

_PROSE = (
    "The miller opened the gate at first light and listened to the water. "
    "In spring the race ran high and the wheel turned before the frost had left the boards. "
    "He counted the sacks twice, because the baker from the valley counted them three times. "
    "When the stones ran dry of grain they sang, and a mill that sings is a mill that burns. "
)


def short(name: str) -> list[Messages]:
    """Return 20 chats of some 30 to 50 tokens that share no block of 16 tokens with others of another name."""
    return [
        [
            {"role": "system", "content": f"{number} {name} {number}: answer this question well."},
            {"role": "user", "content": question},
        ]
        for number, question in enumerate(QUESTIONS)
    ]


def after(prefix: str) -> list[Messages]:
    """Return 8 chats behind a system message that they share."""
    return [
        [{"role": "system", "content": prefix}, {"role": "user", "content": question}] for question in QUESTIONS[:8]
    ]


def prose(name: str, sentences: int) -> str:
    """Return a text of some 20 tokens for each sentence."""
    told = _PROSE.split(". ")[:-1]
    return f"{name}. " + " ".join(f"{told[number % len(told)]} ({name} {number})." for number in range(sentences))


def long(name: str, sizes: tuple[int, ...]) -> list[Messages]:
    """Return chats, each about a text of so many sentences."""
    return [
        [
            {"role": "system", "content": f"{number} {name} {number}: you read old books."},
            {"role": "user", "content": f"{prose(f'{name} {number}', size)} What happens next?"},
        ]
        for number, size in enumerate(sizes)
    ]
