"""One request's answer as bytes: outputs of the core in, payloads and frame headers out.

Pure: no clock, no socket. The same class serves a client directly and a router in frames, and a replay rebuilds its
state from the headers that were forwarded, so that the bytes go on exactly where the last worker fell silent.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from headrace_api.frames import FrameHead, Usage
from headrace_worker.errors import RequestError
from headrace_worker.messages import Choice, Output
from headrace_worker.server.ask import Ask
from headrace_worker.server.shapes import DONE, ChatShape, CompletionShape, Identity, Shape, Whole
from headrace_worker.server.transcript import Delta, Entry, Transcript
from headrace_worker.text import Vocabulary


@dataclass(frozen=True, slots=True)
class Frame:
    """A portion of the answer."""

    head: FrameHead
    payload: bytes
    cut: bool
    """The core must be told that this choice has ended."""


@dataclass(slots=True)
class _Kept:
    """What an answer that is not streamed gathers until its end."""

    texts: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)


def shape_of(ask: Ask, identity: Identity, vocabulary: Vocabulary) -> Shape:
    """Return how this request wants its answer written."""
    if ask.chat:
        return ChatShape(identity, vocabulary, logprobs=ask.logprobs is not None, usage=ask.include_usage)
    echoes = [ask.run_of(index).echo for index in range(ask.num_choices)]
    return CompletionShape(identity, vocabulary, logprobs=ask.logprobs, usage=ask.include_usage, echoes=echoes)


class Formatter:
    """The answer to one request; outputs of its choices may come interleaved."""

    def __init__(self, ask: Ask, identity: Identity, vocabulary: Vocabulary) -> None:
        self._ask = ask
        self._shape = shape_of(ask, identity, vocabulary)
        self._choices = [Transcript(ask.run_of(index), ask.stops, vocabulary) for index in range(ask.num_choices)]
        self._kept = [_Kept() for _ in self._choices]
        self._open = len(self._choices)

    @property
    def done(self) -> bool:
        """Whether all choices have ended and the last byte was made."""
        return self._open == 0

    @property
    def outcome(self) -> str:
        """How the request ended: `length` when any of its choices was cut by it."""
        return "length" if any(choice.finish == "length" for choice in self._choices) else "stop"

    def resume(self, heads: Iterable[FrameHead]) -> None:
        """Take what another worker's frames said, silently; raise RequestError where they do not fit this request."""
        for head in heads:
            if not 0 <= head.choice < len(self._choices) or self._choices[head.choice].finish is not None:
                raise RequestError(f"A frame to resume from names choice {head.choice}, which is not open.")
            self.feed(Output("", head.choice, head.tokens, head.finish, head.prefill, head.cached_tokens))
        if self.done:
            raise RequestError("The frames to resume from end the answer; nothing is left to do.")

    def unfinished(self, run: int) -> tuple[Choice, ...]:
        """Return what is still to be generated for one run, each with the tokens it has so far."""
        first = run * self._ask.n
        return tuple(
            Choice(index, tuple(self._choices[index].output_ids))
            for index in range(first, first + self._ask.n)
            if self._choices[index].finish is None
        )

    def feed(self, output: Output) -> Frame | None:
        """Return the portion that `output` makes; None when its choice had ended before."""
        transcript = self._choices[output.choice]
        if transcript.finish is not None:
            return None
        fresh = not transcript.output_ids
        if fresh:
            transcript.cached_tokens = output.cached_tokens
        delta = transcript.feed(output.tokens, output.finish)
        if delta.finish is not None:
            self._open -= 1
        usage = self._usage() if self.done else None
        head = FrameHead(
            choice=output.choice,
            tokens=delta.tokens,
            finish=delta.finish,
            final=self.done,
            usage=usage,
            prefill=output.prefill,
            cached_tokens=output.cached_tokens if fresh else 0,
            prompt_tokens=len(self._ask.run_of(output.choice).prompt_ids)
            if fresh and self._leads(output.choice)
            else 0,
            prefill_s=output.prefill_s,
            decode_s=output.decode_s,
        )
        tell = self._events if self._ask.stream else self._whole
        return Frame(head, tell(output.choice, delta, usage, fresh=fresh), delta.cut)

    def _leads(self, index: int) -> bool:
        """Whether a choice is the first of its prompt, with which the prompt is counted."""
        return index % self._ask.n == 0

    def _events(self, index: int, delta: Delta, usage: Usage | None, *, fresh: bool) -> bytes:
        parts = [self._shape.begin(index)] if fresh else []
        if delta.text or delta.entries:
            parts.append(self._shape.delta(index, delta.text, delta.entries))
        if delta.finish is not None:
            parts.append(self._shape.end(index, delta.finish))
        if usage is not None:
            if self._ask.include_usage:
                parts.append(self._shape.usage(usage))
            parts.append(DONE)
        return b"".join(parts)

    def _whole(self, index: int, delta: Delta, usage: Usage | None, *, fresh: bool) -> bytes:
        del fresh
        kept = self._kept[index]
        kept.texts.append(delta.text)
        kept.entries.extend(delta.entries)
        if usage is None:
            return b""
        choices = [
            Whole(at, "".join(kept.texts), tuple(kept.entries), transcript.finish or "")
            for at, (kept, transcript) in enumerate(zip(self._kept, self._choices, strict=True))
        ]
        return self._shape.body(choices, usage)

    def _usage(self) -> Usage:
        """Count over all choices; a prompt is counted once, and as cached as its least cached choice found it."""
        n = self._ask.n
        return Usage(
            prompt_tokens=sum(len(run.prompt_ids) for run in self._ask.runs),
            completion_tokens=sum(len(choice.output_ids) for choice in self._choices),
            cached_tokens=sum(
                min(choice.cached_tokens for choice in self._choices[run * n : run * n + n])
                for run in range(len(self._ask.runs))
            ),
        )
