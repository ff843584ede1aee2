"""Tasks with checkable answers at levels that small models can and cannot do, made from a seed.

A prompt shows some solved examples of its task, always the same ones, and one question. Both tiers get the same text.
"""

import random
import string
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

_NAMES = "Anna Ben Clara David Emma Felix Grace Henry Iris Jonas Karin Leo Maria Nils Olga Peter Rosa Simon Tina Victor"
_JOBS = "baker nurse teacher driver painter lawyer farmer pilot cook tailor plumber singer dentist gardener"
_THINGS = "ball cup book lamp chair box hat bag key coat spoon clock pen kite bell drum"
_COLOURS = "red blue green yellow black white brown purple orange pink"
_WORDS = (
    "apple river stone cloud garden window table bridge forest candle pencil mirror basket hammer ladder pillow bottle "
    "button carpet engine finger guitar island jacket kettle lemon market needle ocean pepper rabbit saddle ticket "
    "valley wagon yellow zebra anchor branch copper desert eagle feather glacier harbor insect jungle kitchen lantern"
)
TRIES = 200
"""For each prompt; levels of few numbers run out of questions."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked and the only right answer to it."""

    text: str
    answer: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One prompt of the set."""

    task: str
    level: int
    prompt: str
    answer: str

    def right(self, text: str) -> bool:
        """Return whether an answer is the right one, but for capitals, spaces and a full stop at the end."""
        return _plain(text) == _plain(self.answer)


Maker = Callable[[random.Random, int], Question]


def _plain(text: str) -> str:
    return " ".join(text.strip().rstrip(".").lower().replace(",", " ").split())


def _pick(generator: random.Random, words: str, count: int) -> list[str]:
    return generator.sample(words.split(), count)


def _copying(generator: random.Random, level: int) -> Question:
    words = " ".join(_pick(generator, _WORDS, 4 * level))
    return Question(words, words)


def _extraction(generator: random.Random, level: int) -> Question:
    count = 2 * level
    names, place = _pick(generator, _NAMES, count), generator.randrange(count)
    if generator.random() < 0.5:
        jobs = _pick(generator, _JOBS, count)
        text = " ".join(f"{name} is a {job}." for name, job in zip(names, jobs, strict=True))
        return Question(f"{text} What is {names[place]}?", jobs[place])
    codes = ["".join(generator.choices(string.ascii_uppercase, k=3)) + f"-{generator.randint(100, 999)}" for _ in names]
    text = ", ".join(f"{name}: {code}" for name, code in zip(names, codes, strict=True))
    return Question(f"{text}. What is the code of {names[place]}?", codes[place])


def _counting(generator: random.Random, level: int) -> Question:
    count = generator.randint(*{1: (1, 3), 2: (4, 5), 3: (6, 8)}[level])
    return Question(f"How many words are in this list: {' '.join(_pick(generator, _WORDS, count))}?", str(count))


def _sorting(generator: random.Random, level: int) -> Question:
    numbers = generator.sample(range(10, 100) if level == 2 else range(1, 10), 3 if level == 3 else 2)
    return Question(" ".join(map(str, numbers)), " ".join(map(str, sorted(numbers))))


def _arithmetic(generator: random.Random, level: int) -> Question:
    other, one = sorted(generator.randint(10 ** (level - 1), 10**level - 1) for _ in range(2))
    sign = generator.choice("+-x")
    if sign == "+":
        return Question(f"{one} + {other}", str(one + other))
    if sign == "-":
        return Question(f"{one} - {other}", str(one - other))
    digit = generator.randint(2, 9)
    return Question(f"{one} x {digit}", str(one * digit))


def _deciding(generator: random.Random, level: int) -> Question:
    true, count = generator.random() < 0.5, 2 * level
    answer = "yes" if true else "no"
    if generator.random() < 0.5:
        *words, strange = _pick(generator, _WORDS, count + 1)
        return Question(f"{' '.join(words)}. Is {generator.choice(words) if true else strange} in the list?", answer)
    names, things = _pick(generator, _NAMES, count), _pick(generator, _THINGS, count)
    *colours, strange = _pick(generator, _COLOURS, count + 1)
    owned = list(zip(names, colours, things, strict=True))
    text = " ".join(f"{name} has a {colour} {thing}." for name, colour, thing in owned)
    name, colour, thing = generator.choice(owned)
    return Question(f"{text} Does {name} have a {colour if true else strange} {thing}?", answer)


@dataclass(frozen=True, slots=True)
class Task:
    """How questions of one kind are made and put."""

    instruction: str
    make: Maker
    put: str = "Q: {}\nA:"
    examples: int = 6
    """As many as Gemma's 512 tokens allow where that helps it."""


TASKS: dict[str, Task] = {
    "copying": Task("Copy the words.", _copying),
    "extraction": Task("Answer from the text.", _extraction),
    "counting": Task("Count the words.", _counting, examples=12),
    "sorting": Task("Sort the numbers from the smallest to the largest.", _sorting),
    "arithmetic": Task("Calculate.", _arithmetic, put="{} =", examples=12),
    "deciding": Task("Answer yes or no.", _deciding),
}
LEVELS = (1, 2, 3)


def problems(count: int, seed: int) -> list[Problem]:
    """Return `count` different prompts for each level of each task; levels of few numbers may have fewer.

    A smaller set is part of a larger one.
    """
    found: list[Problem] = []
    for name, task in TASKS.items():
        shown = _examples(name, task)
        head = f"{task.instruction}\n\n" + "".join(
            f"{task.put.format(text)} {answer}\n\n" for text, answer in shown.items()
        )
        for level in LEVELS:
            found += [
                Problem(name, level, head + task.put.format(question.text), question.answer)
                for question in _questions(random.Random(f"{seed} {name} {level}"), task.make, level, count, shown)
            ]
    return found


def _questions(
    generator: random.Random, make: Maker, level: int, count: int, shown: Mapping[str, str]
) -> Collection[Question]:
    found: dict[str, Question] = {}
    for _ in range(TRIES * count):
        question = make(generator, level)
        if question.text not in shown:
            found.setdefault(question.text, question)
        if len(found) == count:
            break
    return found.values()


def _examples(name: str, task: Task) -> dict[str, str]:
    """Return the solved examples, of all levels in turn, the same for every seed."""
    generator = random.Random(f"examples of {name}")
    shown: dict[str, str] = {}
    while len(shown) < task.examples:
        question = task.make(generator, LEVELS[len(shown) % len(LEVELS)])
        shown.setdefault(question.text, question.answer)
    return shown
