"""Which deployment a request goes to when it names a tier, or leaves the choice to the router (pure)."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

AUTO = "auto"
"""The model of a request that leaves the choice to the router."""


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """Where a request goes."""

    deployment: str
    tried: tuple[str, ...]
    """Names of tiers: those passed over because they have no worker, then the one that serves; empty without tiers."""


class Tiers:
    """The tiers of one router, in the order of its resource: the first is the one to prefer.

    Args:
        tiers: (name, deployment) of each.
    """

    def __init__(self, tiers: Iterable[tuple[str, str]]) -> None:
        self._tiers = tuple(tiers)
        self._by_name = dict(self._tiers)
        self._by_deployment = {deployment: name for name, deployment in reversed(self._tiers)}

    def names(self) -> tuple[str, ...]:
        """Return what requests may name beside deployments."""
        return (*self._by_name, AUTO) if self._tiers else ()

    def has(self, deployment: str) -> bool:
        """Whether a deployment is one of the tiers."""
        return deployment in self._by_deployment

    def free(self, model: str | None) -> bool:
        """Whether a request for `model` leaves the choice among several tiers to the router."""
        taken = AUTO in self._by_deployment or AUTO in self._by_name
        return model == AUTO and not taken and len(self._tiers) > 1

    def ladder(self, serves: Callable[[str], bool]) -> tuple[tuple[str, ...], Sequence[tuple[str, str]]]:
        """Return the names of tiers to pass over, and (name, deployment) of those to ask, cheapest first.

        Tiers in front without a worker are passed over where a later one has one. Behind it they are kept: a tier that
        sleeps is woken by the request that needs it.

        Args:
            serves: whether a deployment has a worker that can be chosen now.
        """
        first = next((place for place, (_, deployment) in enumerate(self._tiers) if serves(deployment)), 0)
        return tuple([name for name, _ in self._tiers[:first]]), self._tiers[first:]

    def choose(self, model: str, serves: Callable[[str], bool]) -> Choice | None:
        """Return where a request for `model` goes; None where that is no tier, nor `auto` with tiers to choose from.

        A deployment's own name comes first, then a tier's, then `auto`: a name never changes its meaning because of a
        resource that somebody adds. With no worker anywhere `auto` is the first tier, where the request waits.

        Args:
            model: as the request names it.
            serves: whether a deployment has a worker that can be chosen now.
        """
        if model in self._by_deployment:
            return Choice(model, (self._by_deployment[model],))
        if model in self._by_name:
            return Choice(self._by_name[model], (model,))
        if model != AUTO or not self._tiers:
            return None
        passed: list[str] = []
        for name, deployment in self._tiers:
            passed.append(name)
            if serves(deployment):
                return Choice(deployment, tuple(passed))
        name, deployment = self._tiers[0]
        return Choice(deployment, (name,))
