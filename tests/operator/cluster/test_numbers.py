"""Who says how many workers a pool holds."""

import pytest

from headrace_api.names import ANNOTATION_REPLICAS_WRITTEN
from headrace_operator.kubernetes.numbers import Number, number
from headrace_operator.kubernetes.objects import Metadata, PoolItem, PoolSpec


def pool(replicas: int | None, noted: str | None) -> PoolItem:
    annotations = {} if noted is None else {ANNOTATION_REPLICAS_WRITTEN: noted}
    return PoolItem(Metadata("chat-decode", annotations=annotations), spec=PoolSpec("chat", "decode", replicas))


@pytest.mark.parametrize(
    ("what", "asked", "item", "expected"),
    [
        ("a new pool, left open", None, None, Number(1, 1, write=True)),
        ("a new pool with a number", 3, None, Number(3, 3, write=True)),
        ("made, not yet written", 3, pool(None, "3"), Number(3, 3, write=True)),
        ("left open, not yet written", None, pool(None, "1"), Number(1, 1, write=True)),
        ("written", 3, pool(3, "3"), Number(3, 3, write=False)),
        ("scaled since", 3, pool(7, "3"), Number(7, 3, write=False)),
        ("scaled to none", 3, pool(0, "3"), Number(0, 3, write=False)),
        ("the user changes the number", 4, pool(7, "3"), Number(4, 4, write=True)),
        ("the user takes the number away", None, pool(7, "3"), Number(7, 3, write=False)),
        ("the note was lost", 3, pool(7, None), Number(3, 3, write=True)),
        ("the note was lost, left open", None, pool(7, None), Number(7, 7, write=False)),
        ("the note is no number", 3, pool(7, "many"), Number(3, 3, write=True)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_number_of_a_pool(what: str, asked: int | None, item: PoolItem | None, expected: Number) -> None:
    assert what
    assert number(asked, item) == expected
