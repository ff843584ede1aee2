"""What a user's template does to ours."""

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace_operator.objects.merge import merge

scalars = st.integers() | st.text(max_size=3) | st.booleans()
keys = st.sampled_from(["a", "b", "env", "volumes", "containers", "volumeMounts"])
named = st.lists(st.fixed_dictionaries({"name": st.sampled_from("xyz")}, optional={"value": scalars}), max_size=3)
leaves = scalars | named | st.lists(scalars, max_size=2)
branches = st.dictionaries(keys, leaves, max_size=3)
trees: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    keys, leaves | branches | st.lists(branches, max_size=2), max_size=4
)
anyhow = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@anyhow
@given(trees)
def test_nothing_laid_over_changes_nothing(base: dict[str, Any]) -> None:
    assert merge(base, {}) == base


@anyhow
@given(trees, trees)
def test_laying_the_same_twice_is_laying_it_once(base: dict[str, Any], over: dict[str, Any]) -> None:
    once = merge(base, over)
    assert merge(once, over) == once


@anyhow
@given(trees, trees)
def test_neither_side_is_changed(base: dict[str, Any], over: dict[str, Any]) -> None:
    before = copy.deepcopy((base, over))
    merge(base, over)
    assert (base, over) == before


@anyhow
@given(trees, st.dictionaries(keys, scalars, max_size=4))
def test_what_is_laid_over_wins(base: dict[str, Any], over: dict[str, Any]) -> None:
    merged = merge(base, over)
    assert all(merged[key] == value for key, value in over.items())
    assert merged.keys() == base.keys() | over.keys()


@pytest.mark.parametrize(
    ("base", "over", "expected"),
    [
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}}, {"a": {"x": 1, "y": 3}}),
        ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
        ({"a": {"x": 1}}, {"a": {"x": None}}, {"a": {}}),
        ({}, {"a": {"x": None, "y": 1}}, {"a": {"y": 1}}),
        ({"args": ["a", "b"]}, {"args": ["c"]}, {"args": ["c"]}),
        ({"args": ["a", "b"]}, {"args": []}, {"args": []}),
        ({"a": "text"}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        ({"tolerations": [{"key": "a"}]}, {"tolerations": [{"key": "b"}]}, {"tolerations": [{"key": "b"}]}),
    ],
)
def test_mappings_merge_and_plain_lists_are_replaced(base: Any, over: Any, expected: Any) -> None:
    assert merge(base, over) == expected


def test_named_objects_merge_by_name_and_keep_their_order() -> None:
    base = {"containers": [{"name": "worker", "image": "ours"}, {"name": "other"}]}
    over = {"containers": [{"name": "sidecar", "image": "theirs"}, {"name": "worker", "tty": True}]}
    assert merge(base, over)["containers"] == [
        {"name": "worker", "image": "ours", "tty": True},
        {"name": "other"},
        {"name": "sidecar", "image": "theirs"},
    ]


def test_a_variable_with_a_value_takes_the_place_of_one_that_comes_from_elsewhere() -> None:
    base = {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}
    assert merge(base, {"env": [{"name": "A", "value": "b"}]}) == {"env": [{"name": "A", "value": "b"}]}


def test_one_volume_may_be_mounted_at_a_second_place() -> None:
    base = {"volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}]}
    over = {"volumeMounts": [{"name": "models", "mountPath": "/again"}]}
    assert merge(base, over)["volumeMounts"] == [*base["volumeMounts"], *over["volumeMounts"]]
