import operator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_worker.text.provenance import Traced, client_data, holds_client_text, join, mask_of

TEXT = st.text(alphabet="ab<|>/ \n\u2028", max_size=12)
TRACED = st.builds(lambda house, client: Traced(house, bytes(len(house))) + client, TEXT, TEXT.map(Traced))
SEPARATOR = st.text(alphabet="ab<| ", min_size=1, max_size=2)


def marked(text: str) -> str:
    """Return the text with what the client wrote in capitals."""
    return "".join(c.upper() if client else c for c, client in zip(str.__str__(text), mask_of(text), strict=True))


@given(TRACED, SEPARATOR, st.integers(-1, 3))
def test_every_cut_gives_what_str_gives_with_the_masks_of_the_same_places(
    traced: Traced, separator: str, count: int
) -> None:
    plain = traced.plain
    cuts: list[tuple[list[str], list[str]]] = [
        (traced.split(separator, count), plain.split(separator, count)),
        (traced.rsplit(separator, count), plain.rsplit(separator, count)),
        (traced.split(None, count), plain.split(None, count)),
        (traced.rsplit(None, count), plain.rsplit(None, count)),
        (traced.splitlines(), plain.splitlines()),
        (traced.splitlines(keepends=True), plain.splitlines(keepends=True)),
        (list(traced.partition(separator)), list(plain.partition(separator))),
        (list(traced.rpartition(separator)), list(plain.rpartition(separator))),
        (
            [traced.strip(), traced.lstrip("a<"), traced.rstrip("\n")],
            [plain.strip(), plain.lstrip("a<"), plain.rstrip("\n")],
        ),
        (
            [traced.removeprefix(separator), traced.removesuffix(separator)],
            [plain.removeprefix(separator), plain.removesuffix(separator)],
        ),
        (list(traced), list(plain)),
        ([traced[1:], traced[-3:-1], traced[::-1]], [plain[1:], plain[-3:-1], plain[::-1]]),
    ]
    border = plain[: traced.mask.count(0)]
    for parts, expected in cuts:
        assert parts == expected
        for part in parts:
            assert len(mask_of(part)) == len(part)
    joined = "".join(marked(part) for part in traced.split(separator))
    assert joined == "".join(part for part in marked_split(border, plain, separator))


def marked_split(border: str, plain: str, separator: str) -> list[str]:
    """Return the parts of `plain`, with what lies beyond `border` in capitals, found by position."""
    parts, at = [], 0
    for part in plain.split(separator):
        parts.append("".join(c.upper() if at + i >= len(border) else c for i, c in enumerate(part)))
        at += len(part) + len(separator)
    return parts


@given(TRACED, SEPARATOR, TEXT.map(Traced))
def test_a_replacement_is_the_one_who_wrote_its(traced: Traced, old: str, new: Traced) -> None:
    replaced = traced.replace(old, new)
    assert replaced == traced.plain.replace(old, new.plain)
    assert len(mask_of(replaced)) == len(replaced)
    kept = [mask_of(part) for part in traced.split(old)]
    assert mask_of(replaced) == new.mask.join(kept)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<|" + Traced("user") + "|>", "<|USER|>"),
        (Traced("user") + "|>", "USER|>"),
        (join("-", ["ab", Traced("cd"), 5]), "ab-CD-5"),
        (Traced("ab") * 2, "ABAB"),
        (Traced("-").join(["a", "b"]), "a-b"),
        (join("", ["x", Traced("é")]).upper(), "XÉ"),
    ],
)
def test_text_joined_from_two_hands_knows_both(text: str, shown: str) -> None:
    assert marked(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        join("", ["ab", Traced("ß")]).upper(),
        join("", ["ab", Traced("c")]).center(9),
        join("", ["%s|", Traced("c")]) % "x",
        operator.mod("%s|", Traced("c")),
        join("", ["{}", Traced("c")]).format("x"),
        Traced("abc").replace("", "-"),
    ],
)
def test_text_that_cannot_be_attributed_is_the_clients(text: str) -> None:
    assert set(mask_of(text)) == {1}


def test_data_of_a_request_is_the_clients_down_to_its_keys() -> None:
    data: Any = client_data({"name": "f", "items": ["a", {"b": 1}], "none": None})
    assert data == {"name": "f", "items": ["a", {"b": 1}], "none": None}
    assert all(holds_client_text(key) for key in data)
    assert holds_client_text(data["items"])
    assert not holds_client_text({"a": ["b", 1, None]})
