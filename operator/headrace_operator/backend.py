"""What a place where workers run must offer, and the loop that drives it."""

import logging
from collections.abc import Callable
from typing import Protocol

from headrace_operator.actions import Action
from headrace_operator.desired import Desired
from headrace_operator.observed import Observed
from headrace_operator.reconcile import reconcile

logger = logging.getLogger(__name__)


class Backend(Protocol):
    """A place where workers run."""

    def observe(self) -> Observed:
        """Return a snapshot of everything this backend holds."""

    async def apply(self, action: Action) -> None:
        """Begin an action; its effect shows in later snapshots."""

    async def changed(self, timeout_s: float) -> None:
        """Return once something differs from the last snapshot, or after `timeout_s`."""


async def converge(
    desired: Desired, backend: Backend, done: Callable[[Observed], bool], *, resync_s: float = 1.0
) -> Observed:
    """Reconcile until `done` holds for a snapshot, and return that snapshot.

    `resync_s` bounds the time to the next look when the backend announces no change.
    """
    while True:
        observed = backend.observe()
        if done(observed):
            return observed
        actions = reconcile(desired, observed)
        for action in actions:
            logger.debug("applying %s", action)
            await backend.apply(action)
        if not actions:
            await backend.changed(resync_s)
