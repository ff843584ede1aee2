"""What an answer's own tokens say about it: sums that grow frame by frame and that a gate reads at any moment.

Plain Python, because it runs for each frame in the data path. Memory grows with the tokens by the trigrams that tell
repetition; nothing else is kept of them. Does not know text: the router has no tokenizer.
"""

import math
from bisect import bisect_right

from headrace_api.frames import FrameHead, Token

LEAST_LOGPROB = -30.0
"""Nats; less likely tokens count as this likely, so that one of them cannot make a mean infinite."""
QUANTILE = 0.1
"""Share of the tokens that are less likely than `low_logprob` says."""
_EDGES = tuple(-0.001 * 1.25**place for place in range(47, -1, -1))
"""Bounds of the buckets that the quantile is read from: steps of a quarter, from -36 to -0.001 nats."""
_NGRAM = 3

BLIND_NAMES = ("tokens", "repetition", "cut", "prompt")
"""Features of an answer without log-probabilities."""
NAMES = (
    *("mean_logprob", "min_logprob", "low_logprob", "first_logprob"),
    *("mean_margin", "min_margin", "first_margin", "mean_entropy", "max_entropy"),
    *BLIND_NAMES,
)
"""All features; `Evidence.features` says what each means."""


class Evidence:
    """What an answer's own tokens say about it, added up frame by frame.

    Args:
        prompt_bytes: size of the prompt's text as the router renders it (`Peek.text`).
    """

    __slots__ = ("_buckets", "_finishes", "_grams", "_prompt_bytes", "_recent", "_seen_grams", "_stats", "_tokens")

    def __init__(self, prompt_bytes: int) -> None:
        self._prompt_bytes = prompt_bytes
        self._stats = _Stats()
        self._buckets = [0] * (len(_EDGES) + 1)
        self._finishes: dict[int, str | None] = {}
        self._recent: dict[int, tuple[int, ...]] = {}
        self._grams: set[tuple[int, ...]] = set()
        self._seen_grams = 0
        self._tokens = 0

    def take(self, head: FrameHead) -> None:
        """Add a frame's tokens and its finish reason; O(tokens in the frame)."""
        for token in head.tokens:
            self._repeat(head.choice, token.id)
            self._weigh(token, first=head.choice not in self._finishes)
            self._finishes.setdefault(head.choice, None)
        self._tokens += len(head.tokens)
        if head.finish is not None:
            self._finishes[head.choice] = head.finish

    @property
    def tokens(self) -> int:
        """Tokens generated so far, over all choices."""
        return self._tokens

    @property
    def finished(self) -> bool:
        """Whether a finish reason has come for every choice seen, and one was seen."""
        return bool(self._finishes) and None not in self._finishes.values()

    @property
    def sighted(self) -> bool:
        """Whether the engine told how likely its tokens were.

        Judged by the margins: log-probabilities of a sure answer are truly 0, margins of real numbers hardly ever.
        """
        return self._stats.max_margin > 0

    def features(self) -> dict[str, float]:
        """Return the features by name; finite, whatever has come.

        Log-probabilities, margins and entropies are in nats. `low_logprob` is the quantile `QUANTILE`; `first_` is of
        each choice's first token; `tokens` and `prompt` (in bytes) are ln(1 + x); `repetition` is the share of
        trigrams of token ids that the same choice had before; `cut` is the share of choices that a limit ended.
        """
        found = self._stats.means()
        choices = max(1, len(self._finishes))
        found["low_logprob"] = self._low()
        found["tokens"] = math.log1p(self._tokens / choices)
        found["repetition"] = 1.0 - len(self._grams) / self._seen_grams if self._seen_grams else 0.0
        found["cut"] = sum(finish == "length" for finish in self._finishes.values()) / choices
        found["prompt"] = math.log1p(max(0, self._prompt_bytes))
        return found

    def _weigh(self, token: Token, *, first: bool) -> None:
        if math.isnan(token.logprob) or math.isnan(token.margin):
            return
        logprob = min(0.0, max(LEAST_LOGPROB, token.logprob))
        self._stats.add(logprob, min(-LEAST_LOGPROB, max(0.0, token.margin)), first=first)
        self._buckets[bisect_right(_EDGES, logprob)] += 1

    def _repeat(self, choice: int, token_id: int) -> None:
        recent = (*self._recent.get(choice, ()), token_id)[-_NGRAM:]
        self._recent[choice] = recent
        if len(recent) == _NGRAM:
            self._seen_grams += 1
            self._grams.add((choice, *recent))

    def _low(self) -> float:
        """Return the quantile, from within its bucket by the share of the bucket's tokens that lie below it."""
        wanted = QUANTILE * self._stats.count
        for place, count in enumerate(self._buckets):
            if count and wanted <= count:
                low = max(LEAST_LOGPROB, _EDGES[place - 1]) if place else LEAST_LOGPROB
                high = _EDGES[place] if place < len(_EDGES) else 0.0
                return low + (high - low) * wanted / count
            wanted -= count
        return 0.0


class _Stats:
    """Sums and extremes over tokens."""

    __slots__ = (
        "count",
        "entropy",
        "firsts",
        "logprob",
        "margin",
        "max_entropy",
        "max_margin",
        "min_logprob",
        "min_margin",
    )

    def __init__(self) -> None:
        self.count = 0
        self.logprob = self.margin = self.entropy = 0.0
        self.min_logprob = self.max_margin = self.max_entropy = 0.0
        self.min_margin = -LEAST_LOGPROB
        self.firsts: list[tuple[float, float]] = []

    def add(self, logprob: float, margin: float, *, first: bool) -> None:
        entropy = _entropy(logprob, margin)
        self.count += 1
        self.logprob += logprob
        self.margin += margin
        self.entropy += entropy
        self.min_logprob = min(self.min_logprob, logprob)
        self.min_margin = min(self.min_margin, margin)
        self.max_margin = max(self.max_margin, margin)
        self.max_entropy = max(self.max_entropy, entropy)
        if first:
            self.firsts.append((logprob, margin))

    def means(self) -> dict[str, float]:
        count, firsts = max(1, self.count), max(1, len(self.firsts))
        return {
            "mean_logprob": self.logprob / count,
            "min_logprob": self.min_logprob,
            "first_logprob": sum(logprob for logprob, _ in self.firsts) / firsts,
            "mean_margin": self.margin / count,
            "min_margin": self.min_margin if self.count else 0.0,
            "first_margin": sum(margin for _, margin in self.firsts) / firsts,
            "mean_entropy": self.entropy / count,
            "max_entropy": self.max_entropy,
        }


def _entropy(logprob: float, margin: float) -> float:
    """Return a lower bound on the entropy before a token, in nats.

    The token is taken for the best one, the second best follows from the margin, and the rest counts as one outcome.
    """
    best = math.exp(logprob)
    second = min(best * math.exp(-margin), 1.0 - best)
    return sum(-share * math.log(share) for share in (best, second, 1.0 - best - second) if share > 0)
