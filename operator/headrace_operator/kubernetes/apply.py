"""Makes objects in the cluster as they should be, with as few calls as that takes.

An object is left alone as long as its content is the one applied last and nobody has touched a field that was applied
(`Metadata.mark`, seen by the watch): fields of others and the status never cause a call. That is more exact than the
generation, which grows with fields of others too, and than the version, which grows with the status.

Nothing of somebody else is taken over. The API server refuses a second controller, so an object that another program
controls cannot be changed by us even in a race. One that nobody controls is met with an apply that is not forced:
where it differs, the server refuses; where it does not, what was added is taken back by applying nothing. (One in which
nobody has set any field is taken: there is nothing in it to lose.) Two resources of ours that want one name at the same
moment are told apart here, by who came first: to the server both are the same field manager.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from headrace_operator.kubernetes.cache import Cache
from headrace_operator.kubernetes.errors import ConflictError, ForeignError, NotFoundError, RefusedError
from headrace_operator.kubernetes.kinds import SECRETS, Kind, kind_of
from headrace_operator.kubernetes.objects import Item
from headrace_operator.kubernetes.session import Session, decode, encode

logger = logging.getLogger(__name__)

_INVALID: Final = 422
_HEAD: Final = frozenset({"apiVersion", "kind", "metadata"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object as it should be, ready to be sent."""

    kind: Kind[Any]
    namespace: str
    name: str
    body: bytes
    digest: bytes

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "Wanted":
        """Return the object in a manifest that names its namespace."""
        metadata = manifest["metadata"]
        body = encode(manifest)
        kind = kind_of(manifest["apiVersion"], manifest["kind"])
        return cls(kind, metadata["namespace"], metadata["name"], body, hashlib.blake2b(body, digest_size=16).digest())

    @property
    def place(self) -> tuple[str, str, str]:
        """What tells this object from all others."""
        return self.kind.plural, self.namespace, self.name


@dataclass(frozen=True, slots=True)
class _Made:
    """What was applied last, and what the server answered."""

    digest: bytes
    uid: str
    mark: int


class Applier:
    """Applies objects for resources that own them.

    Args:
        session: to the API server.
        cache: what is there.
    """

    def __init__(self, session: Session, cache: Cache) -> None:
        self._session = session
        self._cache = cache
        self._made: dict[tuple[str, str, str], _Made] = {}
        self._claims: dict[tuple[str, str, str], str] = {}

    def is_fresh(self, wanted: Wanted) -> bool:
        """Return whether the object is as it should be, as far as is known here."""
        made = self._made.get(wanted.place)
        item = self._cache.get(wanted.kind, wanted.namespace, wanted.name)
        return (
            made is not None
            and item is not None
            and made.digest == wanted.digest
            and made.uid == item.metadata.uid
            and made.mark == item.metadata.mark
        )

    def is_there(self, wanted: Wanted) -> bool:
        """Return whether an object that is made once has been made, as far as is known here."""
        if wanted.kind is SECRETS:
            return wanted.place in self._made
        return self._cache.get(wanted.kind, wanted.namespace, wanted.name) is not None

    def is_lost(self, wanted: Wanted) -> bool:
        """Return whether an object that was made here has vanished since."""
        return wanted.place in self._made and not self.is_there(wanted)

    async def ensure(self, wanted: Wanted, owner_uid: str) -> bool:
        """Make the object as it should be and return whether that took a call.

        Args:
            wanted: the object.
            owner_uid: of the resource that controls it, as `wanted` says too.

        Raises:
            ForeignError: there is an object of that name that the resource does not control; it is not changed.
        """
        item = self._cache.get(wanted.kind, wanted.namespace, wanted.name)
        if item is not None:
            _require_ours(item, wanted, owner_uid)
        if self.is_fresh(wanted):
            return False
        if self._claims.setdefault(wanted.place, owner_uid) != owner_uid:
            raise ForeignError(_claimed(wanted.kind.name, wanted.namespace, wanted.name, "another resource"))
        try:
            answer = await self._take_back(wanted) if item is not None else await self._make(wanted, owner_uid)
            self._cache.learn(wanted.kind, answer)
        finally:
            del self._claims[wanted.place]
        self._made[wanted.place] = _Made(wanted.digest, answer.metadata.uid, answer.metadata.mark)
        logger.debug("applied %s %s/%s", wanted.kind.name, wanted.namespace, wanted.name)
        return True

    async def create(self, wanted: Wanted, owner_uid: str) -> bool:
        """Create an object unless it is there, never to be changed again; return whether that took a call.

        Of a Secret that is there nothing more is known: the operator has no right to look at it.

        Raises:
            ForeignError: there is an object of that name that the resource does not control.
        """
        kind, item = wanted.kind, self._cache.get(wanted.kind, wanted.namespace, wanted.name)
        if item is not None:
            _require_ours(item, wanted, owner_uid)
        if self.is_there(wanted):
            return False
        try:
            item = await self._session.create(kind, wanted.namespace, wanted.body)
        except ConflictError as error:
            if not error.exists:
                raise
            if kind is not SECRETS:
                item = await self._session.read(kind, wanted.namespace, wanted.name)
                _require_ours(item, wanted, owner_uid)
        if item is not None and kind is not SECRETS:  # no watch would ever tell that it has gone
            self._cache.learn(kind, item)
        self._made[wanted.place] = _Made(wanted.digest, owner_uid, 0)
        return True

    def is_making(self, kind: Kind[Any], item: Item) -> bool:
        """Return whether a call that makes this object has not been answered yet."""
        return (kind.plural, item.metadata.namespace, item.metadata.name) in self._claims

    def doubt(self, wanted: Wanted) -> None:
        """Forget that an object was made: somebody says that it is missing."""
        self._made.pop(wanted.place, None)

    async def delete(self, kind: Kind[Any], item: Item) -> None:
        """Delete an object and what it owns."""
        namespace, name = item.metadata.namespace, item.metadata.name
        if item.metadata.deletion_timestamp is None:
            await self._session.delete(kind, namespace, name, item.metadata.uid)
        self._made.pop((kind.plural, namespace, name), None)

    def forget(self, places: Iterable[tuple[str, str, str]]) -> None:
        """Let go of what is remembered of objects whose owner has gone."""
        for place in places:
            self._made.pop(place, None)

    async def _take_back(self, wanted: Wanted) -> Any:
        """Apply to an object that is known to be ours; fields that others have changed come back.

        An entry of a list whose key somebody has changed, a Service's port, say, is another entry to the server: what
        they made of it stays beside ours, and both together may be refused. Then the lists are replaced first.
        """
        place = wanted.kind, wanted.namespace, wanted.name
        try:
            return await self._session.apply(*place, wanted.body, force=True)
        except RefusedError as error:
            if error.status != _INVALID:
                raise
            whole = {name: value for name, value in decode(wanted.body).items() if name not in _HEAD}
            if not whole:
                raise
            await self._session.merge(*place, whole)
            return await self._session.apply(*place, wanted.body, force=True)

    async def _make(self, wanted: Wanted, owner_uid: str) -> Any:
        """Apply to an object that should not be there, and find out whose it is where it is."""
        if wanted.place in self._made:
            # The watch lost sight of it: it has gone, or it lost the label by which it is watched.
            return await self._resume(wanted, owner_uid)
        try:
            answer = await self._session.apply(wanted.kind, wanted.namespace, wanted.name, wanted.body, force=False)
        except (ConflictError, RefusedError) as error:
            return await self._resume(wanted, owner_uid, error)
        if answer.metadata.shared:
            await self._session.apply(wanted.kind, wanted.namespace, wanted.name, _nothing(wanted), force=False)
            raise ForeignError(_claimed(wanted.kind.name, wanted.namespace, wanted.name, "nobody"))
        return answer

    async def _resume(self, wanted: Wanted, owner_uid: str, refusal: Exception | None = None) -> Any:
        """Look at what is there; apply by force where it is ours, and raise the refusal where nothing is there."""
        try:
            item = await self._session.read(wanted.kind, wanted.namespace, wanted.name)
        except NotFoundError:
            if refusal is not None:
                raise refusal from None
            return await self._session.apply(wanted.kind, wanted.namespace, wanted.name, wanted.body, force=False)
        _require_ours(item, wanted, owner_uid)
        return await self._take_back(wanted)


def _require_ours(item: Item, wanted: Wanted, owner_uid: str) -> None:
    _require_owner(item, wanted.kind, wanted.namespace, wanted.name, owner_uid)


def _require_owner(item: Item, kind: Kind[Any], namespace: str, name: str, owner_uid: str) -> None:
    controller = item.metadata.controller
    if controller is None:
        raise ForeignError(_claimed(kind.name, namespace, name, "nobody"))
    if controller.uid != owner_uid:
        raise ForeignError(_claimed(kind.name, namespace, name, f"{controller.kind} {controller.name}"))


def _claimed(kind: str, namespace: str, name: str, controller: str) -> str:
    return (
        f"{kind} {namespace}/{name} is there already and controlled by {controller}; it is left as it is. "
        "Delete or rename it, or give this resource another name."
    )


def _nothing(wanted: Wanted) -> bytes:
    """Return what takes back everything that we applied to an object."""
    return encode(
        {
            "apiVersion": wanted.kind.version,
            "kind": wanted.kind.name,
            "metadata": {"name": wanted.name, "namespace": wanted.namespace},
        }
    )
