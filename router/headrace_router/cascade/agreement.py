"""Whether several answers to one question say the same (pure).

Self-consistency: Wang et al. 2022, https://arxiv.org/abs/2203.11171. Free texts are compared by their words, without an
encoder: two agree where most of the longer words of either are in the other, and every number of either is. Long texts
that differ in one decisive word pass as equal; what must be exact is better asked for by a schema.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

_WORD = re.compile(r"[^\W\d_]+")
_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")
_LIKE = 0.75
"""Least F1 of two texts' words, as multisets, that agree."""
_LONG = 4
"""Letters of a word that says something; shorter ones are mostly grammar, and count where there are no others."""


class Majority(NamedTuple):
    """The largest group of answers that agree."""

    share: float
    """Of all answers asked for."""
    first: int
    """Number of the first answer in it."""


def majority(texts: Sequence[str | None], *, exact: bool) -> Majority:
    """Return the largest group; an answer belongs to the first group whose first one it agrees with.

    Args:
        texts: what each answer says; None of one that failed, which agrees with none.
        exact: compare all but the space around and within, as for structured answers; otherwise words and numbers.
    """
    groups: list[list[int]] = []
    for number, text in enumerate(texts):
        if text is None:
            continue
        group = next((one for one in groups if agree(texts[one[0]] or "", text, exact=exact)), None)
        if group is None:
            groups.append([number])
        else:
            group.append(number)
    if not groups:
        return Majority(0.0, 0)
    largest = max(groups, key=len)
    return Majority(len(largest) / len(texts), largest[0])


def agree(one: str, other: str, *, exact: bool) -> bool:
    """Whether two answers say the same."""
    if "".join(one.split()) == "".join(other.split()):
        return True
    if exact or set(_NUMBER.findall(one)) != set(_NUMBER.findall(other)):
        return False
    words, others = _words(one), _words(other)
    shared, size = (words & others).total(), words.total() + others.total()
    return size > 0 and 2 * shared / size >= _LIKE


def _words(text: str) -> Counter[str]:
    words = _WORD.findall(text.casefold())
    return Counter([word for word in words if len(word) >= _LONG] or words)
