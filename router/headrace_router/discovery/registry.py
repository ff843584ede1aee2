"""The registry: the deployments and their workers, with what this router has learned about each."""

import dataclasses
import itertools
from collections.abc import Iterable

from headrace_router.choose.load import Load
from headrace_router.discovery.worker import Worker
from headrace_router.resilience.breaker import Breaker


@dataclasses.dataclass(slots=True, eq=False)
class Member:
    """A worker, its load and its breaker; lives as long as the worker is listed (and while requests run on it)."""

    worker: Worker
    number: int
    """Unique over the router's life; what the prefix index holds in place of the worker."""
    load: Load
    breaker: Breaker = dataclasses.field(default_factory=Breaker)


@dataclasses.dataclass(slots=True)
class Deployment:
    """The members of one model by what they can do."""

    decoders: tuple[Member, ...] = ()
    """Roles decode and unified."""
    prefillers: tuple[Member, ...] = ()
    partners: dict[str, tuple[Member, ...]] = dataclasses.field(default_factory=dict)
    """`prefillers` by pairing, for each pairing that a decode worker has."""
    turn: int = 0
    """Decisions so far; equal workers take turns by it."""

    choosable: bool = False
    """Whether a prompt's text can make a difference. With one worker of each kind nothing is hashed and remembered:
    workers that join later start with an empty index, which costs each conversation one miss at most."""


class Registry:
    """Deployments by model id."""

    def __init__(self) -> None:
        self.deployments: dict[str, Deployment] = {}
        self._members: dict[Worker, Member] = {}
        self._numbers = itertools.count()

    def update(self, workers: Iterable[Worker], models: Iterable[str]) -> list[Member]:
        """Take over the list of ready workers and of known models; return the members that left."""
        before = self._members
        self._members = {worker: before.get(worker) or self._join(worker) for worker in workers}
        deployments = {model: self.deployments.get(model, Deployment()) for model in sorted(models)}
        for model, deployment in deployments.items():
            members = [member for member in self._members.values() if member.worker.deployment == model]
            deployment.decoders = tuple(member for member in members if member.worker.role != "prefill")
            deployment.prefillers = tuple(member for member in members if member.worker.role == "prefill")
            pairings = {member.worker.pairing for member in deployment.decoders}
            deployment.partners = {pairing: _paired(deployment.prefillers, pairing) for pairing in sorted(pairings)}
            deployment.choosable = len(deployment.decoders) > 1 or len(deployment.prefillers) > 1
        self.deployments = deployments
        return [member for worker, member in before.items() if worker not in self._members]

    def _join(self, worker: Worker) -> Member:
        return Member(worker, next(self._numbers), Load(unified=worker.role == "unified"))


def _paired(members: Iterable[Member], pairing: str) -> tuple[Member, ...]:
    return tuple(member for member in members if member.worker.pairing == pairing)
