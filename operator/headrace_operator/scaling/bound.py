"""Bounds over both pools together: the ratio between them and the GPUs that they may take."""

from collections.abc import Mapping

from headrace_operator.desired import Role
from headrace_operator.scaling.terms import Bounds, Terms

Numbers = dict[Role, int]


def paired(wanted: Numbers, terms: Terms) -> Numbers:
    """Return the numbers lifted to the ratio, within the bounds, which win; a pool without workers has no part."""
    ratio, pools = terms.ratio, terms.pools
    if ratio is None or not all(wanted.values()):
        return wanted
    tops = ratio.cut(pools["prefill"].most, pools["decode"].most)
    prefill, decode = ratio.lift(min(wanted["prefill"], tops[0]), min(wanted["decode"], tops[1]))
    return {"prefill": max(prefill, pools["prefill"].least), "decode": max(decode, pools["decode"].least)}


def afforded(wanted: Numbers, terms: Terms) -> Numbers:
    """Return the numbers cut to the GPUs that there may be: in the ratio, or by what each pool wants beyond its least.

    The bound wins over the least numbers too, but for one worker of each pool that has any.
    """
    pools, budget = terms.pools, terms.gpus
    if budget is None or cost(wanted, pools) <= budget:
        return wanted
    if terms.ratio is not None and all(wanted.values()):
        return _in_ratio(wanted, terms, budget)
    floors = {role: min(number, max(1, pools[role].least)) for role, number in wanted.items()}
    if cost(floors, pools) > budget:
        floors = {role: min(1, number) for role, number in wanted.items()}
    return _shared(wanted, floors, pools, budget)


def cost(numbers: Numbers, pools: Mapping[Role, Bounds]) -> int:
    """Return the GPUs of so many workers."""
    return sum(number * pools[role].gpus for role, number in numbers.items())


def kept(wanted: Numbers, current: Numbers, terms: Terms) -> Numbers:
    """Return the numbers with those that grow cut to what is left beside the workers that are there.

    What shrinks gives its GPUs back when it has shrunk: an autoscaler in between may take its time, or find that the
    change is too small.
    """
    budget, pools = terms.gpus, terms.pools
    if budget is None:
        return wanted
    held = {role: max(number, current.get(role, 0)) for role, number in wanted.items()}
    over = cost(held, pools) - budget
    result = dict(wanted)
    for role in sorted(wanted, key=lambda role: wanted[role] - current.get(role, 0), reverse=True):
        grown, each = wanted[role] - current.get(role, 0), pools[role].gpus
        if over > 0 and grown > 0 and each:
            given = min(grown, -(-over // each))
            result[role] -= given
            over -= given * each
    return result


def _in_ratio(wanted: Numbers, terms: Terms, budget: int) -> Numbers:
    """Return the largest pair in the ratio below `wanted` that the budget pays for.

    Of each number of decode workers the fewest prefill workers are tried; then more of them, while the ratio allows.
    """
    ratio, pools = terms.ratio, terms.pools
    assert ratio is not None
    low, high = 1, wanted["decode"]
    while low < high:
        decode = (low + high + 1) // 2
        prefill, _ = ratio.lift(1, decode)
        low, high = (
            (decode, high) if cost({"prefill": prefill, "decode": decode}, pools) <= budget else (low, decode - 1)
        )
    prefill, _ = ratio.lift(1, low)
    most, _ = ratio.cut(wanted["prefill"], low)
    each = pools["prefill"].gpus
    if each:
        most = min(most, max(prefill, (budget - low * pools["decode"].gpus) // each))
    return {"prefill": max(prefill, most) if prefill <= wanted["prefill"] else wanted["prefill"], "decode": low}


def _shared(wanted: Numbers, floors: Numbers, pools: Mapping[Role, Bounds], budget: int) -> Numbers:
    """Return each pool's floor and its share of what is left, by what it wants beyond; the last takes the remainder."""
    left = max(0, budget - cost(floors, pools))
    asked = {role: (number - floors[role]) * pools[role].gpus for role, number in wanted.items()}
    total, result = sum(asked.values()), dict(wanted)
    priced = [role for role in wanted if asked[role]]
    for role in priced:
        share = left if role == priced[-1] else left * asked[role] // total
        given = min(wanted[role] - floors[role], share // pools[role].gpus)
        result[role] = floors[role] + given
        left, total = left - given * pools[role].gpus, total - asked[role]
    return result
