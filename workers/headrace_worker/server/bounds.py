"""The sampling of a request: defaults, and the bounds that depend on the model."""

from headrace_api.sampling import Sampling
from headrace_worker.errors import RequestError
from headrace_worker.server.fields import Body, ChatBody
from headrace_worker.server.prompt import checked_ids
from headrace_worker.server.refusal import shown
from headrace_worker.server.served import ServedModel

GREEDY_BELOW = 1e-5
"""Logits divided by less than this overflow float32; such a temperature means greedy."""


def read_sampling(body: Body, model: ServedModel, num_prompt: int, seed: int, logprobs: int | None) -> Sampling:
    """Return how each answer to a prompt of `num_prompt` tokens is sampled; raise RequestError out of bounds."""
    left = _room(body, model, num_prompt)
    wanted = _max_tokens(body)
    max_tokens = left if wanted is None else min(wanted, left)
    min_tokens = body.min_tokens or 0
    if min_tokens > max_tokens:
        raise RequestError(
            f"min_tokens is {shown(min_tokens)} but at most {max_tokens} tokens can be generated here; lower it.",
            param="min_tokens",
        )
    temperature = 1.0 if body.temperature is None else body.temperature
    own_stops = checked_ids(body.stop_token_ids or [], model.vocabulary, "stop_token_ids")
    ends = () if body.ignore_eos else model.vocabulary.end_ids
    return Sampling(
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        temperature=0.0 if temperature < GREEDY_BELOW else temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        top_k=min(max(body.top_k or 0, 0), model.vocabulary.size),
        min_p=body.min_p or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        repetition_penalty=1.0 if body.repetition_penalty is None else body.repetition_penalty,
        logit_bias=_logit_bias(body.logit_bias or {}, model.vocabulary.size),
        seed=seed,
        stop_ids=tuple(dict.fromkeys((*ends, *own_stops))),
        top_logprobs=logprobs,
    )


def _room(body: Body, model: ServedModel, num_prompt: int) -> int:
    left = model.max_model_len - num_prompt
    if left < 1:
        raise RequestError(
            f"The prompt has {num_prompt} tokens but the context of {model.name!r} holds {model.max_model_len}, "
            "prompt and answer together; shorten the prompt.",
            param="messages" if isinstance(body, ChatBody) else "prompt",
            code="context_length_exceeded",
        )
    return left


def _max_tokens(body: Body) -> int | None:
    newer = body.max_completion_tokens if isinstance(body, ChatBody) else None
    if newer is not None and body.max_tokens is not None and newer != body.max_tokens:
        raise RequestError(
            f"max_tokens is {body.max_tokens} and max_completion_tokens {newer}; send one of them.",
            param="max_completion_tokens",
        )
    return newer if newer is not None else body.max_tokens


def _logit_bias(bias: dict[str, float], size: int) -> tuple[tuple[int, float], ...]:
    pairs = []
    for key, value in bias.items():
        is_id = key.isascii() and key.isdecimal() and len(key) <= 10 and int(key) < size
        if not is_id:
            raise RequestError(
                f"logit_bias has the key {shown(key)}; keys are token ids from '0' to '{size - 1}'.",
                param="logit_bias",
            )
        pairs.append((int(key), value))
    return tuple(pairs)
