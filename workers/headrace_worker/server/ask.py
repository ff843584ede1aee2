"""A checked request: what the core is asked to run, and how its answer is to be told."""

import secrets
from dataclasses import dataclass

from headrace_api.sampling import Sampling
from headrace_worker.errors import RequestError
from headrace_worker.server.bounds import read_sampling
from headrace_worker.server.fields import (
    MAX_STOP_CHARACTERS,
    MAX_STOPS,
    NEUTRAL,
    Body,
    ChatBody,
    CompletionBody,
)
from headrace_worker.server.prompt import read_prompts
from headrace_worker.server.refusal import refuse_unserved, shown
from headrace_worker.server.served import ServedModel

MAX_CHOICES = 1024
"""Bound on prompts times `n` of one request."""


@dataclass(frozen=True, slots=True)
class Run:
    """One prompt, sampled `n` times."""

    prompt_ids: tuple[int, ...]
    sampling: Sampling
    echo: str = ""
    """Text that is repeated in front of each answer."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request; choice `r * n + i` is the i-th answer to run r."""

    chat: bool
    runs: tuple[Run, ...]
    n: int
    stops: tuple[str, ...]
    stream: bool
    include_usage: bool
    logprobs: int | None
    """Alternatives to report per token; None: no log-probabilities at all."""
    seeded: bool
    """Whether the client named the seed: without it nothing can be replayed."""

    def run_of(self, choice: int) -> Run:
        """Return the run that this choice answers."""
        return self.runs[choice // self.n]

    @property
    def num_choices(self) -> int:
        """Answers over all prompts."""
        return len(self.runs) * self.n


def check(body: Body, model: ServedModel) -> Ask:
    """Return the request, tokenized and checked; raise RequestError where it cannot be served as asked."""
    if body.model != model.name:
        raise RequestError(
            f"The model {shown(body.model)} does not exist here; this worker serves {model.name!r}.",
            status=404,
            param="model",
            code="model_not_found",
        )
    refuse_unserved(body, NEUTRAL)
    if body.stream_options is not None and not body.stream:
        raise RequestError("stream_options needs stream: true.", param="stream_options")
    stops = _stops(body.stop)
    logprobs = _logprobs(body)
    n = body.n or 1
    prompts = read_prompts(body, model)
    if len(prompts) * n > MAX_CHOICES:
        raise RequestError(
            f"{len(prompts)} prompts with n = {n} make {len(prompts) * n} answers; at most {MAX_CHOICES} are served "
            "in one request. Send several requests.",
            param="n",
        )
    seed = body.seed if body.seed is not None else secrets.randbits(63)
    runs = tuple(Run(ids, read_sampling(body, model, len(ids), seed, logprobs), echo) for ids, echo in prompts)
    return Ask(
        chat=isinstance(body, ChatBody),
        runs=runs,
        n=n,
        stops=stops,
        stream=bool(body.stream),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
        logprobs=logprobs,
        seeded=body.seed is not None,
    )


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(stops) > MAX_STOPS:
        raise RequestError(f"stop holds {len(stops)} strings; at most {MAX_STOPS} are allowed.", param="stop")
    if any(not one or len(one) > MAX_STOP_CHARACTERS for one in stops):
        raise RequestError(f"Each stop string must have 1 to {MAX_STOP_CHARACTERS} characters.", param="stop")
    return stops


def _logprobs(body: Body) -> int | None:
    if isinstance(body, ChatBody):
        if body.top_logprobs is not None and not body.logprobs:
            raise RequestError("top_logprobs needs logprobs: true.", param="top_logprobs")
        return (body.top_logprobs or 0) if body.logprobs else None
    if isinstance(body, CompletionBody):
        if body.echo and body.logprobs is not None:
            raise RequestError("echo together with logprobs is not supported yet; leave one out.", param="echo")
        return body.logprobs
    return None
