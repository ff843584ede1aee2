"""The requests in flight: which sequences belong to which, and which of them wait for the first one's prompt."""

from dataclasses import dataclass, field

from headrace_worker.engine.sequence import Sequence
from headrace_worker.messages import Generate


@dataclass(slots=True)
class Request:
    """The choices of one request; the first one computes the prompt, the others follow on its cached blocks."""

    message: Generate
    sequences: dict[int, Sequence]
    followers: list[Sequence] = field(default_factory=list)
    """Sequences that start once the first one's prompt has been computed."""


class Requests:
    """All requests by id."""

    def __init__(self) -> None:
        self._requests: dict[str, Request] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def open(self, message: Generate, max_len: int) -> Request:
        """Make the sequences of a request."""
        sequences = {
            choice.index: Sequence(
                request=message.request,
                choice=choice.index,
                prompt_ids=message.prompt_ids,
                sampling=message.sampling,
                max_len=max_len,
                output_ids=list(choice.output_ids),
                priority=message.priority,
                salt=message.salt,
            )
            for choice in message.choices
        }
        request = Request(message, sequences, list(sequences.values())[1:])
        self._requests[message.request] = request
        return request

    def get(self, request: str) -> Request | None:
        """Return a request in flight."""
        return self._requests.get(request)

    def close_choice(self, request: str, choice: int) -> Sequence | None:
        """Forget one choice, and the request with its last one; return its sequence."""
        found = self._requests.get(request)
        if found is None:
            return None
        sequence = found.sequences.pop(choice, None)
        if sequence is not None and sequence in found.followers:
            found.followers.remove(sequence)
        if not found.sequences:
            del self._requests[request]
        return sequence

    def close(self, request: str) -> list[Sequence]:
        """Forget a request; return the sequences it still had."""
        found = self._requests.pop(request, None)
        return list(found.sequences.values()) if found is not None else []

    def release_followers(self, request: str) -> list[Sequence]:
        """Return the sequences that may start now that the first one's prompt is there."""
        found = self._requests.get(request)
        if found is None:
            return []
        followers, found.followers = found.followers, []
        return followers
