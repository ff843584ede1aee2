"""What a GPU-second costs, as the lines of unused time say it: they have nothing else in them."""

from collections import defaultdict
from collections.abc import Mapping

from headrace_router.cost.facts import Facts


def per_second(facts: Facts) -> Mapping[str, float]:
    """Return billionths for a GPU-second by tier, of those that are priced by the hour."""
    cost: defaultdict[str, int] = defaultdict(int)
    seconds: defaultdict[str, float] = defaultdict(float)
    for one in facts.unused:
        cost[one.tier] += one.cost
        seconds[one.tier] += one.seconds
    return {tier: cost[tier] / seconds[tier] for tier in cost if cost[tier] > 0 and seconds[tier] > 0}
