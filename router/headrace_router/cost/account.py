"""The account of one request: reserved before, watched meanwhile, settled after."""

from collections.abc import Callable
from typing import Protocol

from headrace_api.frames import FrameHead
from headrace_router.cost.bill import Bill, Footer
from headrace_router.cost.budget import Budgets, Hold, Purse
from headrace_router.cost.entry import Entry, Judged, Kind
from headrace_router.cost.estimate import Paces, Terms
from headrace_router.cost.meter import Meter
from headrace_router.cost.money import to_text
from headrace_router.cost.period import next_start
from headrace_router.cost.price import Cost, Tariff, Usage
from headrace_router.cost.tenants import Tenant
from headrace_router.errors import ClientError


class Shop(Protocol):
    """What all accounts share."""

    budgets: Budgets
    currency: str

    def write(self, entry: Entry, written: Callable[[bool | None], None]) -> None:
        """Enter a line in the ledger, if there is one, and say whether it was new."""

    def note(self, tenant: Tenant, bill: Bill, model: str, kind: Kind) -> None:
        """Count a closed account in the metrics."""


class Account:
    """One request's.

    Args:
        shop: shared by all.
        tenant: who pays.
        model: the deployment.
        tier: what the model is called in prices and bills.
        tariff: the tier's.
        paces: of the model.
        terms: the request's size.
        names: (entry id, request id).
        unix_s: when the request came.
    """

    __slots__ = (
        "_hold",
        "_names",
        "_paces",
        "_shop",
        "_tariff",
        "_tenant",
        "_terms",
        "_unix_s",
        "closed",
        "judged",
        "meter",
        "model",
        "refusal",
        "tier",
    )

    def __init__(
        self,
        shop: Shop,
        tenant: Tenant,
        *,
        model: str,
        tier: str,
        tariff: Tariff,
        paces: Paces,
        terms: Terms,
        names: tuple[str, str],
        unix_s: float,
    ) -> None:
        self._shop = shop
        self._tenant = tenant
        self._tariff = tariff
        self._paces = paces
        self._terms = terms
        self._names = names
        self._unix_s = unix_s
        self._hold: Hold = shop.budgets.open(tenant, unix_s, terms.own)
        self.model = model
        self.tier = tier
        self.meter = Meter()
        self.closed = False
        self.judged: Judged | None = None
        """What a gate said of the answer, for the ledger."""
        self.refusal: ClientError | None = None
        """Why the answer must end, once a hard budget has not enough left for its next frame."""

    def reserve(self) -> None:
        """Reserve what the request may cost; raise ClientError 402 where a budget has not so much left."""
        if self._hold.purses:
            empty = self._shop.budgets.reserve(self._hold, self._paces.bound(self._tariff, self._terms))
            if empty is not None:
                raise _exhausted(empty, self._unix_s, self._shop.currency)

    def take(self, head: FrameHead, payload: bytes) -> bool:
        """Count a frame and reserve more where the answer outgrows its reservation; False where it ends before it."""
        del payload
        self.meter.take(head)
        if self._hold.limited and not head.final:
            self.refusal = self._afford()
        return self.refusal is None

    def _afford(self) -> ClientError | None:
        missing = self._tariff.cost(self._running()).total - self._hold.amount
        if missing <= 0:
            return None
        budgets, hold = self._shop.budgets, self._hold
        if budgets.reserve(hold, max(missing, hold.amount // 4)) is None:
            return None
        empty = budgets.reserve(hold, missing)
        return None if empty is None else _exhausted(empty, self._unix_s, self._shop.currency)

    def _running(self) -> Usage:
        """Return what was used so far, with a bound in the place of a prompt that was not counted yet."""
        usage = self.meter.usage()
        if usage.prompt_tokens:
            return usage
        return Usage(self._terms.body_bytes, 0, usage.completion_tokens, usage.prefill_s, usage.decode_s)

    def close(self, status: int, told: Callable[[Footer], None], *, tried: bool = False) -> None:
        """Settle; `told` hears the bill once its line in the ledger is safe, or cannot be for now.

        Args:
            status: how the request ended. Only whole answers and those that the client or a budget cut off are billed.
            told: called once, perhaps before this returns.
            tried: whether another tier answers the request.
        """
        assert not self.closed
        self.closed = True
        usage = self.meter.usage()
        billable = status in (200, 402, 499)
        if not billable:
            lost_s = usage.prefill_s + usage.decode_s + usage.lost_s
            usage = Usage(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, lost_s=lost_s)
        cost = self._tariff.cost(usage) if billable else Cost(lost=self._tariff.cost(usage).lost)
        bill = Bill(self.tier, self._shop.currency, usage, cost, self._payable(cost) if billable else 0)
        if self.meter.idle:
            self._settle(bill, "request", told)
            return
        kind: Kind = "failed" if not billable else "tried" if tried else "request"
        if status == 200:
            self._paces.learn(self._terms, usage)

        def written(new: bool | None) -> None:  # noqa: FBT001 - the shape of the ledger's answer
            if new is False and billable:
                repeated = Bill(bill.tier, bill.currency, bill.usage, bill.cost, 0, repeated=True)
                self._settle(repeated, "repeat", told)
            else:
                self._settle(bill, kind, told)

        self._shop.write(self._entry(bill, kind, status), written)

    def _payable(self, cost: Cost) -> int:
        """Return what is billed: what it cost, or what a hard budget had left for it where that is less."""
        more = cost.total - self._hold.amount
        if more > 0 and self._hold.purses and self._shop.budgets.reserve(self._hold, more) is not None:
            return self._hold.amount
        return cost.total

    def _settle(self, bill: Bill, kind: Kind, told: Callable[[Footer], None]) -> None:
        self._shop.budgets.settle(self._hold, bill.billed)
        self._shop.note(self._tenant, bill, self.model, kind)
        told(Footer(bill))

    def _entry(self, bill: Bill, kind: Kind, status: int) -> Entry:
        name, request = self._names
        usage, tenant = bill.usage, self._tenant
        return Entry(
            # A failure must not take the name of the answer that a repeat may bring.
            entry=f"{name}~failed" if kind == "failed" else name,
            at=self._unix_s,
            kind=kind,
            request=request,
            key=tenant.key,
            team=tenant.team,
            organisation=tenant.organisation,
            model=self.model,
            tier=bill.tier,
            status=status,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            prefill_s=usage.prefill_s,
            decode_s=usage.decode_s,
            lost_s=usage.lost_s,
            cost=bill.cost.total + bill.cost.lost,
            billed=bill.billed,
            saving=bill.cost.saving,
            currency=bill.currency,
            gain=None if self.judged is None else self.judged.gain,
            stage=None if self.judged is None else self.judged.stage,
        )


def _exhausted(purse: Purse, unix_s: float, currency: str) -> ClientError:
    limit = purse.limit
    assert limit.hard is not None
    text = (
        f"The budget {limit.name!r} of {limit.scope} {limit.of!r} has not enough left for this request: "
        f"{to_text(purse.spent)} {currency} of {to_text(limit.hard)} are spent and {to_text(purse.held)} reserved."
    )
    anew = next_start(limit.period, unix_s)
    after_s = None if anew is None else max(1, int(anew - unix_s))
    return ClientError(text, status=402, code="budget_exhausted", retry_after_s=after_s)
