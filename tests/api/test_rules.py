"""Rules between fields, in both of their forms."""

from typing import ClassVar

import pytest
from pydantic import ValidationError

from headrace_api.resources.meta import Part
from headrace_api.resources.rules import Rule

RULE = Rule("self.low <= self.high", lambda part: part.low <= part.high, "low is {low}, above {high}", "low")


class Span(Part):
    """Two numbers."""

    rules: ClassVar = (RULE,)
    low: int
    high: int = 9


def test_a_broken_rule_says_the_values() -> None:
    with pytest.raises(ValidationError, match="low is 10, above 9"):
        Span(low=10)
    assert Span(low=9).high == 9


def test_the_schema_says_the_same() -> None:
    assert Span.model_json_schema()["x-kubernetes-validations"] == [
        {
            "rule": "self.low <= self.high",
            "messageExpression": "'low is %s, above %s'.format([self.low, self.high])",
            "fieldPath": ".low",
        }
    ]


def test_a_message_without_values_stays_a_text() -> None:
    assert Rule("a", bool, "it is", "b").schema() == {"rule": "a", "message": "it is", "fieldPath": ".b"}
