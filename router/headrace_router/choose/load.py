"""The load of a worker as this router sees it."""

import dataclasses


@dataclasses.dataclass(slots=True)
class Load:
    """Counts over the requests that this router has running on one worker.

    Bytes are of prompt text, the only size a router knows without a tokenizer.
    """

    unified: bool = False
    """Whether the worker prefills what it decodes."""
    requests: int = 0
    waiting_bytes: int = 0
    """Prompt text that is still to be prefilled, prefix hits taken off."""
    held_bytes: int = 0
    """Prompt text whose KV the worker holds for running requests."""
    trust: float = 1.0
    """How much of the predicted prefix hits came true lately, 0 to 1."""

    def judge(self, predicted: float, actual: float) -> None:
        """Move `trust` towards what came true of a predicted hit; both are shares of a prompt.

        An index kept outside the worker cannot see evictions; without this a small cache would attract for ever the
        prompts that it has long forgotten.
        """
        if predicted > 0:
            self.trust += 0.2 * (min(1.0, actual / predicted) - self.trust)
