"""The books of one router: opens accounts, keeps budgets and ledger, answers questions about costs."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from headrace_api.resources.router import RouterSpec
from headrace_router.cost.account import Account
from headrace_router.cost.bill import Bill
from headrace_router.cost.budget import Budgets, Limit, Purse
from headrace_router.cost.entry import Entry, Kind
from headrace_router.cost.estimate import Paces, Terms
from headrace_router.cost.figures import Figures
from headrace_router.cost.ledger import Ledger
from headrace_router.cost.money import to_nano, to_text
from headrace_router.cost.price import FREE, tariff
from headrace_router.cost.report import spent_since
from headrace_router.cost.store import StoreError, open_store
from headrace_router.cost.tenants import ANYBODY, Keys, Tenant
from headrace_router.cost.unused import line
from headrace_router.errors import ClientError, SettingsError
from headrace_router.settings import RouterSettings

logger = logging.getLogger(__name__)


class Book:
    """Prices, tenants, budgets and ledger of one router.

    Args:
        spec: of the LLMRouter.
        settings: the router's.
        loop: the router's.
    """

    def __init__(self, spec: RouterSpec, settings: RouterSettings, loop: asyncio.AbstractEventLoop) -> None:
        self.currency = spec.currency
        self.keys = None if settings.keys is None else Keys(Path(settings.keys))
        self._refuse = spec.ledger is not None and spec.ledger.when_away == "refuse"
        self._tiers = {tier.model: (tier.name, tariff(tier.price)) for tier in reversed(spec.tiers)}
        self._first_paces = (settings.prefill_ms_per_kib / 1000 / 1024, settings.stream_ms / 1000)
        self._paces: dict[str, Paces] = {}
        self._figures = Figures(spec.currency)
        self._limits = tuple(_limits(spec))
        self._ledger: Ledger | None = None
        self.place = settings.ledger
        self.budgets = Budgets(self._limits, lambda _, _start_s: 0, self._warn)
        if self.keys is not None:
            self.keys.load()
        if settings.ledger is not None:
            self._open(settings.ledger, loop)

    def _open(self, place: str, loop: asyncio.AbstractEventLoop) -> None:
        try:
            ledger = self._ledger = Ledger(open_store(place), loop)
            now_s, first = time.time(), True

            def spent(limit: Limit, start_s: float) -> int:
                # A period that begins while this router runs has nothing spent: no other router has these budgets.
                return spent_since(ledger.query, limit, start_s) if first else 0

            self.budgets = Budgets(self._limits, spent, self._warn)
            self.budgets.purses(now_s)
            first = False
        except StoreError as error:
            raise SettingsError(str(error)) from error
        ledger.start()

    # --- accounts -----------------------------------------------------------------------------------------

    def tenant(self, authorization: bytes) -> Tenant:
        """Return who sent a request; raise ClientError 401."""
        return ANYBODY if self.keys is None else self.keys.find(authorization)

    def open(self, tenant: Tenant, model: str, terms: Terms, names: tuple[str, str]) -> Account:
        """Open the account of a request and reserve; raise ClientError 402 or 503.

        Args:
            tenant: who pays.
            model: the deployment.
            terms: the request's size and the cost it allows.
            names: (entry id, request id).
        """
        if self._refuse and self.away:
            text = "Costs cannot be written down at the moment, and this router takes no request without; try later."
            raise ClientError(text, status=503, code="ledger_away", retry_after_s=5)
        tier, price = self._tiers.get(model, (model, FREE))
        paces = self._paces.get(model)
        if paces is None:
            paces = self._paces[model] = Paces(*self._first_paces)
        account = Account(
            self,
            tenant,
            model=model,
            tier=tier,
            tariff=price,
            paces=paces,
            terms=terms,
            names=names,
            unix_s=time.time(),
        )
        account.reserve()
        return account

    def write(self, entry: Entry, written: Callable[[bool | None], None]) -> None:
        """Enter a line in the ledger; without one every line is new."""
        if self._ledger is None:
            written(True)
        else:
            self._ledger.append(entry, written)

    def unused(self, portion: tuple[Kind, int, float], model: str, incarnation: str, role: str | None = None) -> None:
        """Write down GPU time of a worker that no request used."""
        tier, price = self._tiers.get(model, (model, FREE))
        entry = line(
            portion,
            incarnation=incarnation,
            model=model,
            tier=tier,
            tariff=price,
            currency=self.currency,
            unix_s=time.time(),
            role=role,
        )
        self.write(entry, lambda _: None)

    def note(self, tenant: Tenant, bill: Bill, model: str, kind: Kind) -> None:
        """Count a closed account."""
        self._figures.note(tenant, bill, model, kind)

    # --- others -------------------------------------------------------------------------------------------

    @property
    def away(self) -> bool:
        """Whether the ledger cannot be written now."""
        return self._ledger is not None and self._ledger.away

    def metrics(self) -> Iterable[str]:
        """Yield the samples of a scrape."""
        return self._figures.lines(self.budgets.purses(time.time()), away=self.away)

    def poll(self) -> None:
        """Look whether the key file has changed."""
        if self.keys is not None:
            self.keys.poll()

    def close(self) -> None:
        """Write what is left."""
        if self._ledger is not None:
            self._ledger.close()

    def _warn(self, purse: Purse) -> None:
        limit = purse.limit
        assert limit.soft is not None
        logger.warning(
            "budget %s of %s %s has passed its soft limit: %s of %s %s are spent in this %s",
            limit.name,
            limit.scope,
            limit.of,
            to_text(purse.spent),
            to_text(limit.soft),
            self.currency,
            limit.period,
        )


def _limits(spec: RouterSpec) -> Iterable[Limit]:
    for budget in spec.budgets:
        soft, hard = (None if amount is None else to_nano(amount) for amount in (budget.soft, budget.hard))
        yield Limit(budget.name, budget.scope, budget.of, budget.period, soft, hard)
