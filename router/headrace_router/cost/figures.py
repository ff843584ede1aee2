"""Money in Prometheus' text format."""

from collections import Counter
from collections.abc import Iterable

from headrace_api import names
from headrace_router.cost.bill import Bill
from headrace_router.cost.budget import Purse
from headrace_router.cost.entry import Kind
from headrace_router.cost.money import to_text
from headrace_router.cost.tenants import Tenant


class Figures:
    """Sums since the router's start; tenants are as many as the key file names."""

    def __init__(self, currency: str) -> None:
        self._currency = currency
        self._billed: Counter[str] = Counter()
        self._used: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._saved: Counter[str] = Counter()
        self._requests: Counter[str] = Counter()
        self._seconds: Counter[str] = Counter()

    def note(self, tenant: Tenant, bill: Bill, model: str, kind: Kind) -> None:
        """Count a closed account."""
        tier = f'model="{model}",tier="{bill.tier}"'
        who = f'{tier},team="{tenant.team}",organisation="{tenant.organisation}"'
        self._billed[who] += bill.billed
        self._used[tier] += bill.cost.total + bill.cost.lost
        self._lost[tier] += bill.cost.lost
        self._saved[tier] += bill.cost.saving
        self._requests[f'{tier},kind="{kind}"'] += 1
        for phase, seconds in (
            ("prefill", bill.usage.prefill_s),
            ("decode", bill.usage.decode_s),
            ("lost", bill.usage.lost_s),
        ):
            self._seconds[f'{tier},phase="{phase}"'] += seconds  # type: ignore[assignment]  # counts may be fractions

    def lines(self, purses: Iterable[Purse], *, away: bool) -> Iterable[str]:
        """Yield the samples."""
        currency = f'currency="{self._currency}"'
        for name, text, amounts in (
            (names.COST_BILLED, "Billed to tenants.", self._billed),
            (names.COST_USED, "What requests cost, billed or not.", self._used),
            (names.COST_LOST, "Of that, what failed attempts and replays cost.", self._lost),
            (names.COST_SAVED, "What cached prompt tokens would have cost beside.", self._saved),
        ):
            yield from _head(f"{name}_total", "counter", text)
            yield from (f"{name}_total{{{labels},{currency}}} {to_text(amounts[labels])}" for labels in sorted(amounts))
        for name, text, counts in (
            (names.COST_REQUESTS, "Accounts closed, by kind of line in the ledger.", self._requests),
            (names.COST_GPU_SECONDS, "GPU-seconds that requests used.", self._seconds),
        ):
            yield from _head(f"{name}_total", "counter", text)
            yield from (f"{name}_total{{{labels}}} {counts[labels]}" for labels in sorted(counts))
        yield from _budgets(list(purses), currency)
        yield from _head(names.COST_LEDGER_AWAY, "gauge", "1 while the ledger cannot be written.")
        yield f"{names.COST_LEDGER_AWAY} {int(away)}"


def _budgets(purses: list[Purse], currency: str) -> Iterable[str]:
    for name, text, state in (
        (names.COST_BUDGET_SPENT, "Spent of a budget in its period.", "spent"),
        (names.COST_BUDGET_RESERVED, "Reserved of a budget by requests that run.", "held"),
    ):
        yield from _head(name, "gauge", text)
        for purse in purses:
            yield f'{name}{{budget="{purse.limit.name}",{currency}}} {to_text(getattr(purse, state))}'
    yield from _head(names.COST_BUDGET_LIMIT, "gauge", "What a budget allows in its period, soft and hard.")
    for purse in purses:
        for kind, amount in (("soft", purse.limit.soft), ("hard", purse.limit.hard)):
            if amount is not None:
                labels = f'budget="{purse.limit.name}",kind="{kind}",{currency}'
                yield f"{names.COST_BUDGET_LIMIT}{{{labels}}} {to_text(amount)}"


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"
