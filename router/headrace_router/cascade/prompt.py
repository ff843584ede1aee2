"""Cheap features of a prompt: what can be counted in its text in well under a millisecond, without a tokenizer."""

import math
import re
from collections.abc import Sequence

_WORD = re.compile(r"[A-Za-z][A-Za-z'\u2019-]*")
_NUMBER = re.compile(r"[0-9][0-9,]*\.?[0-9]*")
_OPTION = re.compile(r"^[ \t]*\(?([A-J])[.)][ \t]+(.*)$", re.MULTILINE)
_CUE = "Answer:"
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+")
_HUGE = 1e15
LONGEST = 20_000
"""Characters that are looked at; the rest of a longer prompt changes little and would cost milliseconds."""
_COUNTED = {
    "fractions": re.compile(r"\d\s*/\s*\d"),
    "money": re.compile(r"[$€£]"),
    "percents": re.compile(r"%"),
    "mathematics": re.compile(r"[=+^*<>√∫∑≤≥]|\\\w+"),
    "code": re.compile(r"[{};]|==|\(\)"),
    "quotes": re.compile(r"[\"“”]"),
    "parentheses": re.compile(r"\("),
    "questions": re.compile(r"\?"),
}
_WORDS = {
    "comparing": "more less fewer than twice thrice half third quarter double triple times older younger taller longer "
    "shorter larger smaller increase decrease increased decreased",
    "rates": "each per every percent rate hour hours minute minutes day days week weeks month months year years speed "
    "average ratio",
    "changes": "remaining left rest total altogether sum difference remainder bought spent gave lost profit",
    "conditions": "if unless when after before then until while except only otherwise provided suppose assume given",
    "negations": "not no never none neither nor except without cannot isn't doesn't don't won't incorrect false least",
    "quantities": "how many much",
    "explaining": "why explain because reason describe discuss compare argue analyze analyse prove derive show",
    "second_person": "you your yours",
    "first_person": "i my me we our us mine",
    "quantifiers": "all any some every no both either neither always never most following statements",
}
_WORD_SETS = {name: frozenset(words.split()) for name, words in _WORDS.items()}

NAMES: tuple[str, ...] = (
    *("characters", "words", "word_length", "long_words", "sentences", "sentence_length", "lines"),
    *("digits", "numbers", "largest_number", "decimals", "capitals", "names", "commas", "blanks", "foreign"),
    *("question_length", "single_letters", "colons", "distinct_words"),
    *("options", "option_length", "option_spread", "options_with_numbers", "option_share"),
    *_COUNTED,
    *_WORD_SETS,
)
"""The features in their order; a model file repeats them, so that one trained on others is refused."""


def lists_options(text: str) -> bool:
    """Whether the prompt offers answers to choose from: at least two lines that begin with a letter and a mark."""
    return len(_OPTION.findall(text[:LONGEST])) >= 2


def features(text: str) -> list[float]:
    """Return the features of a prompt, in the order of `NAMES`; counts as ln(1 + count), shares from 0 to 1."""
    text = text[:LONGEST]
    options = [option for _, option in _OPTION.findall(text)]
    question = _OPTION.sub("", text).strip().removesuffix(_CUE).strip()
    found = {
        **_of_text(text, question),
        **_of_numbers(text, question),
        **_of_options(text, options),
        **{name: math.log1p(len(pattern.findall(text))) for name, pattern in _COUNTED.items()},
        **_of_words(question),
    }
    return [found[name] for name in NAMES]


def _of_text(text: str, question: str) -> dict[str, float]:
    words, asked = _WORD.findall(text), _WORD.findall(question)
    num_words, num_characters = max(1, len(words)), max(1, len(text))
    num_sentences = max(1, len(_SENTENCE_END.findall(question)))
    single = [word for word in asked if len(word) == 1 and word.lower() not in {"a", "i"}]
    return {
        "characters": math.log1p(len(text)),
        "words": math.log1p(num_words),
        "word_length": sum(map(len, words)) / num_words,
        "long_words": sum(len(word) > 8 for word in words) / num_words,
        "sentences": math.log1p(num_sentences),
        "sentence_length": math.log1p(len(asked) / num_sentences),
        "lines": math.log1p(text.count("\n")),
        "capitals": sum(character.isupper() for character in text) / num_characters,
        "names": len(_NAME.findall(question)) / num_words,
        "commas": question.count(",") / max(1, len(asked)),
        "blanks": float("__" in text),
        "foreign": sum(ord(character) > 127 for character in text) / num_characters,
        "question_length": math.log1p(len(question)),
        "single_letters": len(single) / max(1, len(asked)),
        "colons": math.log1p(question.count(":")),
        "distinct_words": len({word.lower() for word in words}) / num_words**0.9,
    }


def _of_numbers(text: str, question: str) -> dict[str, float]:
    numbers = _NUMBER.findall(question)
    values = [float(number.replace(",", "").rstrip(".")) for number in numbers]
    return {
        "digits": sum(character.isdigit() for character in text) / max(1, len(text)),
        "numbers": math.log1p(len(numbers)),
        "largest_number": math.log10(1 + min(_HUGE, max(values, default=0.0))),
        "decimals": sum("." in number.rstrip(".") for number in numbers) / max(1, len(numbers)),
    }


def _of_options(text: str, options: Sequence[str]) -> dict[str, float]:
    count, lengths = max(1, len(options)), [len(option) for option in options]
    mean = sum(lengths) / count
    spread = math.sqrt(sum((length - mean) ** 2 for length in lengths) / count)
    return {
        "options": min(len(options), 10) / 4,
        "option_length": math.log1p(mean),
        "option_spread": spread / (1 + mean),
        "options_with_numbers": sum(any(map(str.isdigit, option)) for option in options) / count,
        "option_share": sum(lengths) / max(1, len(text)),
    }


def _of_words(question: str) -> dict[str, float]:
    """Return how often words of each set occur; longer questions repeat such words, so counts are scaled down less."""
    words = [word.lower() for word in _WORD.findall(question)]
    scale = max(4, len(words)) ** 0.75
    return {name: sum(word in known for word in words) / scale for name, known in _WORD_SETS.items()}
