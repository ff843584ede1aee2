"""What the operator knows of the cluster: a copy that watches keep, with an index by the resource an object serves.

Pure data: no client, no clock. Two writers feed it, the watches and the answers to the operator's own writes; either
may come first; the version of an object decides whose word is newer.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar, cast

from headrace_api.names import LABEL_DEPLOYMENT, LABEL_ROUTER
from headrace_operator.kubernetes.kinds import Kind
from headrace_operator.kubernetes.objects import Item

T = TypeVar("T", bound=Item)


class Key(NamedTuple):
    """A resource that the operator reconciles."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """Return the resource as people name it."""
        return f"{self.kind} {self.namespace}/{self.name}"


class Cache:
    """Objects by kind, and which resource each of them serves.

    Args:
        changed: Told of each resource one of whose objects has changed by somebody else's hand, with the kind, the
            object as it was and as it is (None: it was or is not there).
    """

    def __init__(self, changed: Callable[[Key, Kind[Any], Item | None, Item | None], None]) -> None:
        self._changed = changed
        self._objects: dict[str, dict[tuple[str, str], Item]] = defaultdict(dict)
        self._by_key: dict[tuple[str, Key], dict[str, Item]] = defaultdict(dict)
        self._passed: dict[tuple[str, str | None], int] = {}
        self.changes = 0
        """Grows with every object that came, changed or went."""

    def get(self, kind: Kind[T], namespace: str, name: str) -> T | None:
        """Return an object, None where there is none."""
        return cast("T | None", self._objects[kind.plural].get((namespace, name)))

    def of(self, kind: Kind[T], key: Key) -> list[T]:
        """Return the objects of a kind that serve a resource, by name."""
        found = self._by_key.get((kind.plural, key), {})
        return [cast("T", found[name]) for name in sorted(found)]

    def all(self, kind: Kind[T]) -> list[T]:
        """Return every object of a kind."""
        return [cast("T", item) for item in self._objects[kind.plural].values()]

    def see(self, kind: Kind[T], scope: str | None, change: str, item: T) -> None:
        """Take one event of the watch over `scope` (a namespace, None: all): ADDED, MODIFIED, DELETED or BOOKMARK."""
        version = item.metadata.version
        self.pass_version(kind, scope, version)
        if change == "BOOKMARK":
            return
        known = self._known(kind, item)
        if known is not None and known.metadata.version > version:
            return
        if change == "DELETED":
            if known is not None:
                self._drop(kind, known)
                self._tell(kind, known, None)
        elif known is None or known.metadata.version < version:
            self._put(kind, item)
            self._tell(kind, known, item)

    def learn(self, kind: Kind[T], item: T) -> None:
        """Take the answer to a write of our own; nobody is told.

        A version that the watch has passed already adds nothing: the object may have gone since.
        """
        namespace, version = item.metadata.namespace, item.metadata.version
        passed = max(self._passed.get((kind.plural, namespace), 0), self._passed.get((kind.plural, None), 0))
        known = self._known(kind, item)
        if version > passed and (known is None or known.metadata.version < version):
            self._put(kind, item)

    def settle(self, kind: Kind[T], scope: str | None, items: Iterable[T], version: int) -> None:
        """Take a whole list made at `version`: what is not in it and not younger has gone."""
        listed = set()
        for item in items:
            listed.add((item.metadata.namespace, item.metadata.name))
            known = self._known(kind, item)
            if known is None or known.metadata.version < item.metadata.version:
                self._put(kind, item)
                self._tell(kind, known, item)
        for place, known in list(self._objects[kind.plural].items()):
            if place not in listed and scope in {None, place[0]} and known.metadata.version <= version:
                self._drop(kind, known)
                self._tell(kind, known, None)
        self.pass_version(kind, scope, version)

    def pass_version(self, kind: Kind[T], scope: str | None, version: int) -> None:
        """Note that the watch has told everything up to a version."""
        self._passed[kind.plural, scope] = max(version, self._passed.get((kind.plural, scope), 0))

    def _known(self, kind: Kind[Any], item: Item) -> Item | None:
        return self._objects[kind.plural].get((item.metadata.namespace, item.metadata.name))

    def _put(self, kind: Kind[Any], item: Item) -> None:
        self.changes += 1
        known = self._known(kind, item)
        if known is not None and known.metadata.labels != item.metadata.labels:
            self._drop(kind, known)
        self._objects[kind.plural][item.metadata.namespace, item.metadata.name] = item
        for key in keys_of(item):
            self._by_key[kind.plural, key][item.metadata.name] = item

    def _drop(self, kind: Kind[Any], item: Item) -> None:
        self.changes += 1
        del self._objects[kind.plural][item.metadata.namespace, item.metadata.name]
        for key in keys_of(item):
            found = self._by_key[kind.plural, key]
            found.pop(item.metadata.name, None)
            if not found:
                del self._by_key[kind.plural, key]

    def _tell(self, kind: Kind[Any], old: Item | None, new: Item | None) -> None:
        """Tell of every resource that the object served or serves: a label may have moved."""
        touched = keys_of(old) if old is not None else ()
        if new is not None and (old is None or old.metadata.labels != new.metadata.labels):
            touched = (*touched, *keys_of(new))
        for key in sorted(set(touched)):
            self._changed(key, kind, old, new)


def keys_of(item: Item) -> tuple[Key, ...]:
    """Return the resources that an object says it serves, by its labels."""
    labels, namespace = item.metadata.labels, item.metadata.namespace
    keys = []
    if name := labels.get(LABEL_DEPLOYMENT):
        keys.append(Key("LLMDeployment", namespace, name))
    if name := labels.get(LABEL_ROUTER):
        keys.append(Key("LLMRouter", namespace, name))
    return tuple(keys)
