"""How the workers asked for are spread over the revisions of a pool while one takes another's place.

Pure arithmetic, asked again after each change: what was decided before is not remembered.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace_operator.desired import Pool, PoolKey


@dataclass(frozen=True, slots=True)
class Held:
    """One revision as it is."""

    key: PoolKey
    asked: int
    """Workers that it was last told to hold."""
    alive: int = 0
    """Workers whose processes may run, those that drain too: they hold their memory until they end."""
    ready: int = 0
    """Workers that take their share of the traffic."""
    floor: int = 0
    """Workers that somebody else still needs, whatever their own successors do."""

    @property
    def present(self) -> int:
        """Workers that take up room now or soon."""
        return max(self.asked, self.alive)

    @property
    def useful(self) -> int:
        """Workers that would be missed."""
        return min(self.asked, self.ready)


def spread(wanted: Pool, held: Sequence[Held]) -> dict[PoolKey, int]:
    """Return how many workers each revision should hold now, the wanted one included.

    There are never more than `replicas + surge` workers, those that still drain counted, and never fewer than
    `replicas - unavailable` ready ones because of the rollout. Old workers that are not ready go first.

    Args:
        wanted: the revision that should be, with the number and the pace.
        held: every revision that is, the oldest first; the wanted one may be among them.
    """
    old = [one for one in held if one.key != wanted.key]
    if not any(one.present for one in old):
        return {wanted.key: wanted.replicas} | {one.key: 0 for one in old}
    if wanted.pace.paused:
        return _paused(wanted.replicas, held)
    own = next((one for one in held if one.key == wanted.key), Held(wanted.key, 0))
    room = wanted.replicas + wanted.pace.surge - sum(one.present for one in (*old, own))
    targets = {wanted.key: min(wanted.replicas, own.asked + max(0, room))}
    spare = own.useful + sum(one.useful for one in old) - (wanted.replicas - wanted.pace.unavailable)
    for one in old:
        given_up = max(0, min(spare, one.useful))
        spare -= given_up
        targets[one.key] = max(one.useful - given_up, min(one.floor, one.asked))
    return targets


def retire(held: Sequence[Held]) -> dict[PoolKey, int]:
    """Return how many workers each revision should hold when none is wanted any more."""
    return {one.key: min(one.floor, one.asked) for one in held}


def _paused(replicas: int, held: Sequence[Held]) -> dict[PoolKey, int]:
    """Keep the revisions as they are spread; a change of number is met by the newest of them that has workers."""
    targets = {one.key: one.asked for one in held}
    newest = next((one for one in reversed(held) if one.asked), held[-1])
    targets[newest.key] = max(0, newest.asked + replicas - sum(targets.values()))
    return targets
