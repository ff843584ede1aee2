"""From logits to tokens.

Log-probabilities that are reported come from the model's own distribution; penalties, bias, temperature and
truncation change only what is drawn. A draw inverts the cumulative distribution, most likely token first, at the
sequence's own random number, so that it does not depend on the batch.
"""

import math
from collections import Counter
from collections.abc import Sequence

import torch

from headrace_api.frames import Token
from headrace_api.sampling import Sampling
from headrace_worker.kernels.cpu import Summary
from headrace_worker.runner.random import uniform
from headrace_worker.runner.work import Draw

Tensor = torch.Tensor


class NotFiniteError(ArithmeticError):
    """The logits of a row hold NaN or infinity: its request must end, the others go on."""


def sample(logits: Tensor, summary: Summary, draws: Sequence[Draw]) -> list[Token | NotFiniteError]:
    """Draw one token for each row.

    Args:
        logits: (R, V) float32, unchanged.
        summary: of the same rows.
        draws: how to sample each row.

    Returns:
        A token per row, or the error of a row whose logits are not finite.
    """
    best, most = summary.best.tolist(), summary.most.tolist()
    second, log_sum = summary.second.tolist(), summary.log_sum.tolist()
    tokens: list[Token | NotFiniteError] = []
    for row, draw in enumerate(draws):
        if not math.isfinite(log_sum[row]):
            tokens.append(NotFiniteError("the model returned logits that are not finite numbers"))
            continue
        token_id, logit = best[row], most[row]
        if not _plain_greedy(draw):
            token_id = choose(logits[row], draw)
            logit = float(logits[row, token_id])
        top = _top(logits[row], log_sum[row], draw.sampling.top_logprobs)
        tokens.append(Token(token_id, logit - log_sum[row], most[row] - second[row], top))
    return tokens


def _top(logits: Tensor, log_sum: float, count: int | None) -> tuple[tuple[int, float], ...]:
    if not count:
        return ()
    values, ids = logits.topk(min(count, logits.shape[0]))
    return tuple(zip(ids.tolist(), (values - log_sum).tolist(), strict=True))


def _plain_greedy(draw: Draw) -> bool:
    sampling = draw.sampling
    return sampling.temperature == 0 and not _changes_logits(sampling) and not _forbids_end(draw)


def _changes_logits(sampling: Sampling) -> bool:
    return bool(
        sampling.logit_bias
        or sampling.presence_penalty
        or sampling.frequency_penalty
        or sampling.repetition_penalty != 1.0
    )


def _forbids_end(draw: Draw) -> bool:
    return len(draw.output_ids) < draw.sampling.min_tokens and bool(draw.sampling.stop_ids)


def choose(logits: Tensor, draw: Draw) -> int:
    """Return the token drawn from one row of logits (V,)."""
    sampling = draw.sampling
    if _changes_logits(sampling) or _forbids_end(draw):
        logits = adjusted(logits, draw)
    if sampling.temperature == 0:
        return int(logits.argmax())
    values, ids = (logits / sampling.temperature).sort(descending=True, stable=True)
    probabilities = values.softmax(-1)
    kept = keep(probabilities, sampling)
    cumulative = probabilities[:kept].double().cumsum(-1)
    point = uniform(sampling.seed, draw.choice, len(draw.output_ids)) * float(cumulative[-1])
    index = int(torch.searchsorted(cumulative, point, right=True))
    return int(ids[min(index, kept - 1)])


def keep(probabilities: Tensor, sampling: Sampling) -> int:
    """Return how many of the sorted probabilities (V,) remain after top_k, top_p and min_p, at least one.

    top_p keeps the smallest set whose mass reaches it (Holtzman et al. 2020, arXiv 1904.09751); min_p drops what is
    less likely than min_p times the best (Nguyen et al. 2024, arXiv 2407.01082).
    """
    count = probabilities.shape[0]
    if sampling.top_k > 0:
        count = min(count, sampling.top_k)
    if sampling.min_p > 0:
        count = min(count, int((probabilities >= sampling.min_p * probabilities[0]).sum()))
    if sampling.top_p < 1:
        mass = probabilities[:count].double()
        before = mass.cumsum(-1) - mass
        count = min(count, int((before < sampling.top_p * float(mass.sum())).sum()))
    return max(count, 1)


def adjusted(logits: Tensor, draw: Draw) -> Tensor:
    """Return a copy of the logits (V,) with bias and penalties applied and forbidden end tokens at -inf.

    The repetition penalty divides positive and multiplies negative logits of tokens seen in prompt or output;
    presence and frequency penalties subtract for tokens of the output (OpenAI API reference).
    """
    sampling = draw.sampling
    logits = logits.clone()
    if sampling.repetition_penalty != 1.0:
        seen = torch.tensor(sorted({*draw.prompt_ids, *draw.output_ids}), device=logits.device)
        values = logits[seen]
        penalty = sampling.repetition_penalty
        logits[seen] = torch.where(values > 0, values / penalty, values * penalty)
    if (sampling.presence_penalty or sampling.frequency_penalty) and draw.output_ids:
        counts = Counter(draw.output_ids)
        ids = torch.tensor(list(counts), device=logits.device)
        times = torch.tensor(list(counts.values()), dtype=logits.dtype, device=logits.device)
        logits[ids] -= sampling.presence_penalty + sampling.frequency_penalty * times
    for token_id, bias in sampling.logit_bias:
        logits[token_id] += bias
    if _forbids_end(draw):
        logits[list(sampling.stop_ids)] = -math.inf
    return logits
