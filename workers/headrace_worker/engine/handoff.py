"""What the core asks of its hand-off side; a worker without one computes everything itself."""

from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass

from headrace_api.frames import Token
from headrace_api.handoff import Dead
from headrace_worker.engine.scheduler import Item, Plan
from headrace_worker.engine.sequence import Sequence
from headrace_worker.messages import PrefillPeer
from headrace_worker.runner.work import Written


@dataclass(frozen=True, slots=True)
class Admitted:
    """A prompt came from a prefill worker: its KV is in the sequence's blocks and this is the token that follows."""

    sequence: Sequence
    token: Token


class Handoff:
    """No hand-off: every prompt is computed here. Sides that do hand over override what they need."""

    @property
    def remote(self) -> int:
        """Sequences that wait for a prefill worker."""
        return 0

    def take(self, sequence: Sequence, peers: Many[PrefillPeer], mode: str) -> bool:  # noqa: ARG002
        """Ask prefill workers for this sequence's prompt; False: compute it here."""
        return False

    def poll(self, now: float) -> list[Admitted]:  # noqa: ARG002
        """Take in what peers said, act on deadlines; return prompts that arrived."""
        return []

    def deadline(self) -> float | None:
        """Return when `poll` must be called again even if nothing arrives."""
        return None

    def begin(self, plan: Plan) -> Callable[[int], None] | None:  # noqa: ARG002
        """A step is about to run; return what to call after each layer."""
        return None

    def written(self, plan: Plan) -> list[Written]:  # noqa: ARG002
        """Return what of a step other workers wait for."""
        return []

    def computed(self, item: Item, token: Token | None) -> bool:  # noqa: ARG002
        """An item has been computed and perhaps a token sampled; True: it belongs to a peer, not to our front."""
        return False

    def failed(self, sequence: Sequence, reason: str) -> bool:  # noqa: ARG002
        """A sequence cannot go on; True: it belonged to a peer, who was told."""
        return False

    def cancel(self, sequence: Sequence) -> None:
        """Our front gave up a sequence that is REMOTE: end its attempts and give its blocks back."""

    def peer_dead(self, dead: Dead) -> None:
        """The backend vouches that these processes have ended."""

    def close(self) -> None:
        """End transfers and threads."""
