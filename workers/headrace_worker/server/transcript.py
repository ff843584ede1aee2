"""The text of one answer, grown token by token: detokenized, searched for stop strings, aligned with its tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace_api.frames import Token
from headrace_worker.server.ask import Run
from headrace_worker.server.stops import StopMatcher
from headrace_worker.text import Detokenizer, Vocabulary


@dataclass(frozen=True, slots=True)
class Entry:
    """A token and the character of the answer at which its text begins."""

    token: Token
    offset: int


@dataclass(frozen=True, slots=True)
class Delta:
    """What some tokens add to an answer."""

    tokens: tuple[Token, ...]
    """Those that belong to the answer: tokens behind a stop string do not."""
    text: str
    entries: tuple[Entry, ...]
    """Tokens whose text has begun to show."""
    finish: str | None
    cut: bool
    """A stop string ended the answer, which the core cannot know."""


class Transcript:
    """One answer; the same tokens in the same portions make the same deltas, wherever they are fed."""

    def __init__(self, run: Run, stops: Sequence[str], vocabulary: Vocabulary) -> None:
        self.output_ids: list[int] = []
        self.finish: str | None = None
        self.cached_tokens = 0
        self._sampling = run.sampling
        self._detokenizer = Detokenizer(vocabulary)
        self._matcher = StopMatcher(stops)
        self._waiting: list[Entry] = []
        self._heard = 0
        self._told = 0

    def feed(self, tokens: Sequence[Token], finish: str | None) -> Delta:
        """Take the next tokens, `finish` as the core states it with the last of them."""
        assert self.finish is None, "tokens after the end of an answer"
        told: list[str] = []
        hit = False
        taken = 0
        for token in tokens:
            taken += 1
            self.output_ids.append(token.id)
            if finish == "stop" and taken == len(tokens) and token.id in self._sampling.stop_ids:
                break
            if self._sampling.top_logprobs is not None:
                self._waiting.append(Entry(token, self._heard))
            hit = self._hear(self._detokenizer.feed(token.id), told)
            if hit:
                break
        if finish is not None and not hit:
            hit = self._hear(self._detokenizer.flush(), told)
            self._tell("" if hit else self._matcher.flush(), told)
        self.finish = "stop" if hit else finish
        return Delta(tuple(tokens[:taken]), "".join(told), self._shown(hit), self.finish, hit and finish is None)

    def _hear(self, text: str, told: list[str]) -> bool:
        """Take new text; return whether it completes a stop string, none of which can begin before `min_tokens`."""
        self._heard += len(text)
        if len(self.output_ids) <= self._sampling.min_tokens:
            self._tell(text, told)
            return False
        safe, hit = self._matcher.feed(text)
        self._tell(safe, told)
        return hit

    def _tell(self, text: str, told: list[str]) -> None:
        self._told += len(text)
        told.append(text)

    def _shown(self, hit: bool) -> tuple[Entry, ...]:  # noqa: FBT001  # private, one caller
        """Return the waiting entries whose text shows now; at the end all of them, unless a stop string hides them."""
        everything = self.finish is not None and not hit
        count = sum(1 for entry in self._waiting if everything or entry.offset < self._told)
        shown, self._waiting = tuple(self._waiting[:count]), self._waiting[count:]
        return shown
