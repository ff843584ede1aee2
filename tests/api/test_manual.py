"""The reference page of the resources."""

from typing import Any

import pytest

from headrace_api.manual import page

FIELD = {"type": "integer", "description": "How many.", "minimum": 1, "maximum": 9, "default": 3, "example": 4}


def kind(**fields: Any) -> dict[str, Any]:
    part = {"type": "object", "description": "What is wanted.", "properties": fields}
    status = {"type": "object", "description": "What is.", "properties": {}}
    return {"description": "A thing.", "properties": {"spec": part, "status": status}}


def row(field: dict[str, Any]) -> list[str]:
    (line,) = (line for line in page({"Thing": kind(field=field)}).splitlines() if line.startswith("| `field`"))
    return [cell.strip() for cell in line.replace(r"\|", "¦").strip("|").split("|")]


def test_a_field_is_a_row_of_all_that_is_known_of_it() -> None:
    assert row(FIELD) == ["`field`", "integer", "`3`", "1 to 9", "How many.", "`4`"]


@pytest.mark.parametrize(
    ("change", "cell", "expected"),
    [
        ({"default": {}}, 2, ""),
        ({"default": False}, 2, "`false`"),
        ({"enum": ["a", "b"]}, 3, "`a`, `b`"),
        ({"description": "a | b"}, 4, "a ¦ b"),
        ({"example": {"a": ["b"]}}, 5, "`{a: [b]}`"),
        ({"items": {"type": "string"}, "maxItems": 5, "minItems": 2}, 3, "1 to 9; 2 to 5 entries"),
        ({"additionalProperties": {"type": "string", "maxLength": 7}}, 1, "map of string"),
        ({"x-kubernetes-int-or-string": True}, 1, "integer or string"),
    ],
)
def test_each_kind_of_field_has_its_words(change: dict[str, Any], cell: int, expected: str) -> None:
    assert row(FIELD | change)[cell] == expected


def test_what_is_required_is_marked() -> None:
    schema = kind(field={"type": "string", "description": "A name."})
    schema["properties"]["spec"]["required"] = ["field"]
    assert "| `field` | string | required |  | A name. |  |" in page({"Thing": schema})


def test_mappings_that_are_equal_are_told_once() -> None:
    inner = {"type": "object", "description": "Inside.", "properties": {"field": FIELD}}
    text = page({"Thing": kind(one=inner, two=inner)})
    assert "### spec.one, spec.two\n\nInside." in text
    assert text.count("| `field`") == 1


def test_rules_between_fields_are_told() -> None:
    schema = kind(field=FIELD)
    schema["properties"]["spec"]["x-kubernetes-validations"] = [
        {"rule": "a", "message": "both are there"},
        {"rule": "b", "messageExpression": "'field is %s; write 1'.format([self.field])"},
    ]
    assert "Refused where:\n\n- both are there\n- field is …; write 1\n" in page({"Thing": schema})


def test_a_pattern_without_words_ends_the_generator() -> None:
    with pytest.raises(KeyError):
        row({"type": "string", "description": "x", "pattern": "^new$"})
