"""What the cache believes when watches and answers to writes contradict each other."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from headrace_api.names import LABEL_DEPLOYMENT, LABEL_ROUTER
from headrace_operator.kubernetes.cache import Cache, Key
from headrace_operator.kubernetes.kinds import CONFIG_MAPS, PODS, Kind
from headrace_operator.kubernetes.objects import Item, Metadata, PodItem

CHAT = Key("LLMDeployment", "default", "chat")


@dataclass
class Told:
    keys: list[tuple[Key, str]] = field(default_factory=list)

    def __call__(self, key: Key, _kind: Kind[Any], old: Item | None, new: Item | None) -> None:
        self.keys.append((key, "gone" if new is None else "new" if old is None else "changed"))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def cache(told: Told) -> Cache:
    return Cache(told)


def item(version: int, name: str = "one", namespace: str = "default", **labels: str) -> Item:
    return Item(Metadata(name, namespace, f"uid-{name}", str(version), labels=labels or {LABEL_DEPLOYMENT: "chat"}))


def test_objects_are_found_by_name_and_by_the_resource_they_serve(cache: Cache, told: Told) -> None:
    cache.see(CONFIG_MAPS, None, "ADDED", item(5, "b"))
    cache.see(CONFIG_MAPS, None, "ADDED", item(6, "a"))
    cache.see(CONFIG_MAPS, None, "ADDED", item(7, "c", other="label"))

    assert cache.get(CONFIG_MAPS, "default", "a") is not None
    assert [one.metadata.name for one in cache.of(CONFIG_MAPS, CHAT)] == ["a", "b"]
    assert told.keys == [(CHAT, "new"), (CHAT, "new")]


def test_an_older_event_does_not_undo_what_an_answer_told(cache: Cache, told: Told) -> None:
    cache.see(CONFIG_MAPS, None, "ADDED", item(5))
    cache.learn(CONFIG_MAPS, item(9))
    told.keys.clear()

    cache.see(CONFIG_MAPS, None, "MODIFIED", item(7))
    cache.see(CONFIG_MAPS, None, "MODIFIED", item(9))

    found = cache.get(CONFIG_MAPS, "default", "one")
    assert found is not None
    assert found.metadata.version == 9
    assert told.keys == []


def test_an_answer_that_comes_after_the_deletion_was_seen_brings_nothing_back(cache: Cache) -> None:
    cache.see(CONFIG_MAPS, None, "ADDED", item(5))
    cache.see(CONFIG_MAPS, None, "DELETED", item(8))

    cache.learn(CONFIG_MAPS, item(6))

    assert cache.get(CONFIG_MAPS, "default", "one") is None


def test_a_deletion_of_a_former_object_does_not_take_its_successor(cache: Cache) -> None:
    cache.see(CONFIG_MAPS, None, "ADDED", item(5))
    cache.learn(CONFIG_MAPS, item(9))

    cache.see(CONFIG_MAPS, None, "DELETED", item(7))

    assert cache.get(CONFIG_MAPS, "default", "one") is not None


def test_a_new_list_tells_what_came_changed_and_went(cache: Cache, told: Told) -> None:
    for number, name in enumerate("abc"):
        cache.see(PODS, None, "ADDED", PodItem(item(number + 1, name).metadata))
    told.keys.clear()

    cache.settle(PODS, None, [PodItem(item(1, "a").metadata), PodItem(item(8, "b").metadata)], 10)
    cache.settle(PODS, None, [PodItem(item(1, "a").metadata), PodItem(item(11, "d").metadata)], 12)

    assert told.keys == [(CHAT, "changed"), (CHAT, "gone"), (CHAT, "new"), (CHAT, "gone")]
    assert [one.metadata.name for one in cache.of(PODS, CHAT)] == ["a", "d"]


def test_a_list_does_not_remove_what_was_made_after_it(cache: Cache) -> None:
    cache.learn(CONFIG_MAPS, item(9))

    cache.settle(CONFIG_MAPS, None, [], 8)

    assert cache.get(CONFIG_MAPS, "default", "one") is not None


def test_a_list_of_one_namespace_says_nothing_of_another(cache: Cache) -> None:
    cache.settle(CONFIG_MAPS, "a", [item(1, namespace="a")], 1)
    cache.settle(CONFIG_MAPS, "b", [item(2, namespace="b")], 2)

    cache.settle(CONFIG_MAPS, "a", [], 3)

    assert cache.get(CONFIG_MAPS, "a", "one") is None
    assert cache.get(CONFIG_MAPS, "b", "one") is not None


def test_a_label_that_moves_is_told_to_both_resources(cache: Cache, told: Told) -> None:
    cache.see(CONFIG_MAPS, None, "ADDED", item(1))
    told.keys.clear()

    cache.see(CONFIG_MAPS, None, "MODIFIED", item(2, **{LABEL_ROUTER: "front"}))

    assert {key for key, _ in told.keys} == {CHAT, Key("LLMRouter", "default", "front")}
    assert cache.of(CONFIG_MAPS, CHAT) == []
