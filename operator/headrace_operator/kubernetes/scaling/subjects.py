"""The deployments that are scaled, as they are now. Reads what is cached, makes no call."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from pydantic import ValidationError

from headrace_api.names import LABEL_NAME
from headrace_api.resources import LLMDeployment
from headrace_api.resources.scaling import ScalingSpec
from headrace_operator.desired import Role
from headrace_operator.kubernetes.cache import Cache, Key
from headrace_operator.kubernetes.kinds import PODS, POOLS
from headrace_operator.kubernetes.objects import PodItem, PoolItem
from headrace_operator.kubernetes.pods import is_ready, url_of, worker_of
from headrace_operator.kubernetes.resources import Resources
from headrace_operator.objects import Site, labels
from headrace_operator.objects.scaledobject import terms
from headrace_operator.observed import Phase
from headrace_operator.scaling.terms import Terms

_ENDS: Final = frozenset({Phase.DRAINING, Phase.DEAD})


@dataclass(frozen=True, slots=True)
class Server:
    """A worker that may serve."""

    url: str
    is_ready: bool


@dataclass(frozen=True, slots=True)
class Subject:
    """One deployment that is scaled."""

    key: Key
    spec: ScalingSpec
    terms: Terms
    pools: Mapping[Role, PoolItem]
    workers: Mapping[Role, tuple[Server, ...]]
    """Those that are not on their way out."""
    routers: tuple[str, ...]
    """URLs of the routers that are Ready."""

    @property
    def numbers(self) -> dict[Role, int]:
        """Workers that each pool is to have."""
        return {role: item.spec.replicas or 0 for role, item in self.pools.items()}

    @property
    def may_sleep(self) -> bool:
        """Whether some pool may have no worker."""
        return any(bounds.least == 0 for bounds in self.terms.pools.values())


class Subjects:
    """Finds the deployments that are scaled; each is parsed once for each of its generations.

    Args:
        resources: all that users wrote.
        cache: what is there.
    """

    def __init__(self, resources: Resources, cache: Cache) -> None:
        self._resources = resources
        self._cache = cache
        self._parsed: dict[Key, tuple[object, LLMDeployment, Terms]] = {}

    def asks(self, key: Key) -> bool:
        """Return whether a resource is a deployment that asks to be scaled."""
        body = self._resources.get(key)
        return body is not None and _asks(key, body)

    def find(self, site: Site) -> list[Subject]:
        """Return the deployments whose pools are there and have their first number."""
        asking = [key for key in self._resources.listed() if self.asks(key)]
        self._parsed = {key: self._parsed[key] for key in asking if key in self._parsed}
        return [subject for key in asking if (subject := self._subject(key, site)) is not None]

    def _subject(self, key: Key, site: Site) -> Subject | None:
        body = self._resources.get(key)
        parsed = None if body is None else self._parse(key, body, site)
        if parsed is None:
            return None
        deployment, made = parsed
        items = {cast("Role", item.spec.role): item for item in self._cache.of(POOLS, key)}
        pools = {role: items[role] for role in made.pools if role in items and items[role].spec.replicas is not None}
        if len(pools) < len(made.pools) or deployment.spec.scaling is None:
            return None
        pods = self._cache.of(PODS, key)
        return Subject(key, deployment.spec.scaling, made, pools, _workers(pods, made), self._routers(key, pods))

    def _parse(self, key: Key, body: Mapping[str, Any], site: Site) -> tuple[LLMDeployment, Terms] | None:
        """Return the resource and its terms; None where it cannot be read, which its own turn tells."""
        mark = (body["metadata"].get("generation"), body["metadata"]["uid"], site.nvidia)
        known = self._parsed.get(key)
        if known is None or known[0] != mark:
            try:
                deployment = LLMDeployment.model_validate({**body, "status": None})
            except ValidationError:
                return None
            self._parsed[key] = known = (mark, deployment, terms(deployment, site))
        return known[1], known[2]

    def _routers(self, key: Key, pods: Iterable[PodItem]) -> tuple[str, ...]:
        """Return the routers that serve a deployment: its own, and those of every LLMRouter that names it."""
        found = [*pods, *(pod for front in self._resources.routers_of(key) for pod in self._cache.of(PODS, front))]
        return tuple(
            url
            for pod in found
            if pod.metadata.labels.get(LABEL_NAME) == labels.ROUTER and is_ready(pod) and (url := url_of(pod))
        )


def _asks(key: Key, body: Mapping[str, Any]) -> bool:
    return (
        key.kind == "LLMDeployment"
        and body.get("spec", {}).get("scaling") is not None
        and not body["metadata"].get("deletionTimestamp")
    )


def _workers(pods: Iterable[PodItem], made: Terms) -> dict[Role, tuple[Server, ...]]:
    found: dict[Role, list[Server]] = {role: [] for role in made.pools}
    for pod in pods:
        worker = worker_of(pod)
        if worker is not None and worker.role in found and worker.phase not in _ENDS and worker.url is not None:
            found[worker.role].append(Server(worker.url, is_ready(pod)))
    return {role: tuple(servers) for role, servers in found.items()}
