"""What prefix caches saved, and what they would save at most."""

from collections.abc import Mapping, Sequence
from typing import Final

from headrace_cli.advice.piece import MIN_REQUESTS, MIN_SHARE, Advice, Money, Part, Row, Share
from headrace_cli.advice.trace import Repeats
from headrace_router.cost.facts import Facts, Used

TITLE: Final = "Prefix cache"
_MOST_ROWS: Final = 20


def cache(facts: Facts, rates: Mapping[str, float], trace: Repeats | None, *, given: bool) -> Part:
    """Return what caches saved by model and tenant, and a bound on what more they would where a trace tells repeats.

    Args:
        facts: of the ledger.
        rates: see `per_second`.
        trace: of the same traffic; None where there is none with hashes.
        given: whether a trace was given at all.
    """
    rows = [_row(used) for used in facts.used if used.prompt_tokens]
    notes = [_without(given=given)] if trace is None else []
    if len(rows) > _MOST_ROWS:
        notes.append(f"Of {len(rows)} rows the {_MOST_ROWS} dearest are shown.")
    advice: list[Advice] = []
    for model in dict.fromkeys(used.model for used in facts.used) if trace is not None else ():
        assert trace is not None
        own = [used for used in facts.used if used.model == model and used.prompt_tokens]
        found = _model(own, rates, trace)
        if isinstance(found, Advice):
            advice.append(found)
        elif found:
            notes.append(found)
    return Part("cache", TITLE, rows[:_MOST_ROWS], advice, notes)


def _without(*, given: bool) -> str:
    why = "The trace has no hash_ids" if given else "No trace was given"
    return (
        f"{why}, so nothing is known of prompts that repeat, and what a larger cache would save is left out "
        "(`--trace FILE` with hash_ids, of this traffic)."
    )


def _row(used: Used) -> Row:
    return {
        "model": used.model,
        "tenant": f"{used.organisation}/{used.team}/{used.key}",
        "requests": used.requests,
        "prompt tokens": used.prompt_tokens,
        "cached": Share(used.cached_tokens / used.prompt_tokens),
        "cost": Money(used.cost),
        "saved by it": Money(used.saving),
    }


def bound(own: Sequence[Used], rates: Mapping[str, float], share: float) -> int | None:
    """Return what it saves at most when a share of all prompt tokens comes out of a cache, over what does already.

    A token more is worth what one costs to compute, by the hour, and what cached ones saved, by token; None where none
    was cached yet, so that the ledger does not tell the difference of the two prices.
    """
    prompt, cached = sum(one.prompt_tokens for one in own), sum(one.cached_tokens for one in own)
    more = max(0.0, share * prompt - cached)
    rate = max((rates[one.tier] for one in own if one.tier in rates), default=None)
    spent = sum(one.cost for one in own)
    if rate is not None:
        fresh = prompt - cached
        worth = rate * sum(one.prefill_s for one in own) / fresh if fresh > 0 else 0.0
    elif cached:
        worth = sum(one.saving for one in own) / cached
    else:
        return None
    return min(spent, round(more * worth))  # prices may have changed within the span


def _model(own: Sequence[Used], rates: Mapping[str, float], trace: Repeats) -> Advice | str | None:
    if not own:
        return None
    model, requests = own[0].model, sum(one.requests for one in own)
    if min(requests, trace.requests) < MIN_REQUESTS:
        return (
            f"{model}: {requests} requests in the ledger and {trace.requests} in the trace; advice on a cache needs "
            f"{MIN_REQUESTS} of either."
        )
    saving = bound(own, rates, trace.share)
    if saving is None:
        return f"{model}: no prompt token came out of a cache yet, so that the ledger does not tell what one saves."
    prompt, cached = sum(one.prompt_tokens for one in own), sum(one.cached_tokens for one in own)
    if saving < MIN_SHARE * max(1, sum(one.cost for one in own)):
        return (
            f"{model}: {cached / prompt:.1%} of prompt tokens came out of a cache; {trace.share:.1%} of those of the "
            f"trace repeat: a larger cache would save too little ({requests} requests)."
        )
    return Advice(
        topic="cache",
        subject=model,
        now=f"{cached / prompt:.1%} of {prompt} prompt tokens came out of a cache.",
        instead=(
            f"Keep more prefixes (`kv.memory`, `kv.offload`): of the prompt tokens of {trace.name}, {trace.share:.1%} "
            "repeat the beginning of an earlier prompt."
        ),
        saving=saving,
        interval=None,
        risk=(
            "None for quality. The saving is an upper bound: a cache without an end, one for all workers, and traffic "
            "that repeats as the trace does. What the memory for it costs is not counted."
        ),
        requests=requests,
    )
