"""Whether several answers to one question say the same (pure).

Self-consistency: Wang et al. 2022, https://arxiv.org/abs/2203.11171. Free texts agree where all of their numbers do and
an encoder finds their sense alike. Without an encoder their words tell: most of the longer ones of either are in the
other. Long texts that differ in one decisive word pass as equal then; what must be exact is better asked for by a
schema.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from headrace_router.cascade.linear import Floats

_WORD = re.compile(r"[^\W\d_]+")
_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")
_LIKE = 0.75
"""Least F1 of two texts' words, as multisets, that agree."""
_SENSE = 0.9
"""Least cosine of the embeddings of two texts that agree: with all-MiniLM-L6-v2 short paraphrases were tried at 0.84 to
0.97, sentences that differ in a city's name at 0.80 to 0.88. A negation moves it by 0.05 only and is looked for."""
_NEGATION = re.compile(r"\b(?:no|not|never|none|nothing|nobody|neither|nor|cannot)\b|n['\u2019]t\b", re.IGNORECASE)
_LONG = 4
"""Letters of a word that says something; shorter ones are mostly grammar, and count where there are no others."""


class Majority(NamedTuple):
    """The largest group of answers that agree."""

    share: float
    """Of all answers asked for."""
    first: int
    """Number of the first answer in it."""


def majority(texts: Sequence[str | None], *, exact: bool, vectors: Floats | None = None) -> Majority:
    """Return the largest group; an answer belongs to the first group whose first one it agrees with.

    Args:
        texts: what each answer says; None of one that failed, which agrees with none.
        exact: compare all but the space around and within, as for structured answers; otherwise numbers and sense.
        vectors: (texts, size) embeddings of length 1, one for each text that is there, in their order; None: without an
            encoder.
    """
    rows = {} if vectors is None else dict(zip(_there(texts), vectors, strict=False))
    groups: list[list[int]] = []
    for number, text in enumerate(texts):
        if text is None:
            continue
        group = next(
            (
                one
                for one in groups
                if agree(texts[one[0]] or "", text, exact=exact, likeness=_likeness(rows, one[0], number))
            ),
            None,
        )
        if group is None:
            groups.append([number])
        else:
            group.append(number)
    if not groups:
        return Majority(0.0, 0)
    largest = max(groups, key=len)
    return Majority(len(largest) / len(texts), largest[0])


def _there(texts: Sequence[str | None]) -> list[int]:
    return [number for number, text in enumerate(texts) if text is not None]


def _likeness(rows: Mapping[int, Floats], one: int, other: int) -> float | None:
    return float(rows[one] @ rows[other]) if one in rows and other in rows else None


def agree(one: str, other: str, *, exact: bool, likeness: float | None = None) -> bool:
    """Whether two answers say the same; `likeness` is the cosine of their embeddings, None without an encoder."""
    if "".join(one.split()) == "".join(other.split()):
        return True
    if exact or set(_NUMBER.findall(one)) != set(_NUMBER.findall(other)):
        return False
    if likeness is not None:
        return likeness >= _SENSE and bool(_NEGATION.search(one)) == bool(_NEGATION.search(other))
    words, others = _words(one), _words(other)
    shared, size = (words & others).total(), words.total() + others.total()
    return size > 0 and 2 * shared / size >= _LIKE


def _words(text: str) -> Counter[str]:
    words = _WORD.findall(text.casefold())
    return Counter([word for word in words if len(word) >= _LONG] or words)
