"""What tokens cost and who pays: prices, budgets, API keys and the ledger."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from headrace_api.resources.labels import DnsLabel, ObjectName
from headrace_api.resources.meta import Part
from headrace_api.resources.rules import Rule

CURRENCY_PATTERN = r"^[A-Z]{3}$"
TENANT_PATTERN = r"^[A-Za-z0-9]([-A-Za-z0-9_.@]{0,61}[A-Za-z0-9])?$"

Currency = Annotated[str, Field(pattern=CURRENCY_PATTERN, max_length=3)]
Tenant = Annotated[str, Field(pattern=TENANT_PATTERN, max_length=63)]
Money = Annotated[float, Field(ge=0, le=1_000_000_000)]
"""An amount in the router's currency; kept to a billionth."""


class Price(Part):
    """What a tier costs: by the time of its GPUs, or by token."""

    rules: ClassVar = (
        Rule(
            "has(self.gpuHour) != (has(self.inputTokens) && has(self.outputTokens))",
            lambda price: (
                (price.gpu_hour is not None) != (price.input_tokens is not None and price.output_tokens is not None)
            ),
            "a price is either gpuHour, or inputTokens and outputTokens",
            "gpuHour",
        ),
        Rule(
            "!has(self.gpuHour) || !(has(self.inputTokens) || has(self.outputTokens) || has(self.cachedInputTokens))",
            lambda price: (
                price.gpu_hour is None
                or (price.input_tokens, price.output_tokens, price.cached_input_tokens) == (None, None, None)
            ),
            "a price by gpuHour has no prices of tokens beside it",
            "gpuHour",
        ),
    )

    gpu_hour: Money | None = Field(default=None, examples=[2.5])
    """Price of one GPU (of a worker without GPUs: of the worker) for an hour. A request pays for its share of the steps
    that computed it, as the workers measure it; nobody pays for idle time."""
    input_tokens: Money | None = Field(default=None, examples=[0.15])
    """Price of a million prompt tokens."""
    cached_input_tokens: Money | None = Field(default=None, examples=[0.075])
    """Price of a million prompt tokens that came out of a prefix cache. Left out: as `inputTokens`."""
    output_tokens: Money | None = Field(default=None, examples=[0.6])
    """Price of a million generated tokens."""


class Budget(Part):
    """What one key, team or organisation may spend in a period."""

    rules: ClassVar = (
        Rule(
            "has(self.soft) || has(self.hard)",
            lambda budget: budget.soft is not None or budget.hard is not None,
            "a budget needs soft, hard, or both",
            "hard",
        ),
        Rule(
            "!has(self.soft) || !has(self.hard) || self.soft <= self.hard",
            lambda budget: budget.soft is None or budget.hard is None or budget.soft <= budget.hard,
            "soft is above hard; the warning must come before the end",
            "soft",
        ),
    )

    name: DnsLabel = Field(examples=["search-monthly"])
    """Name of the budget in answers, logs and metrics, unique in the router."""
    scope: Literal["key", "team", "organisation"] = Field(examples=["team"])
    """Whose spending counts."""
    of: Tenant = Field(examples=["search"])
    """Name of that key, team or organisation, as the file of API keys has it."""
    period: Literal["hour", "day", "month", "total"] = Field(default="month", examples=["month"])
    """When it begins anew, by the calendar in UTC; `total` never does."""
    soft: Money | None = Field(default=None, examples=[80])
    """Beyond this a warning is logged and the metric of the budget shows it; requests go on."""
    hard: Money | None = Field(default=None, examples=[100])
    """Never passed: each request reserves what it may cost at most, and is refused with 402 where that is not left."""


class Auth(Part):
    """Who may send requests."""

    rules: ClassVar = (
        Rule(
            "has(self.keysFile) != has(self.keysSecret)",
            lambda auth: (auth.keys_file is None) != (auth.keys_secret is None),
            "name either keysFile or keysSecret",
            "keysSecret",
        ),
    )

    keys_file: str | None = Field(default=None, min_length=1, max_length=4096, examples=["keys.yaml"])
    """File of API keys, for local mode: each with its SHA-256, a name, a team and an organisation. It is read again
    when it changes."""
    keys_secret: ObjectName | None = Field(default=None, examples=["headrace-keys"])
    """Secret in the router's namespace that has such a file under `keys.yaml`."""


class Ledger(Part):
    """Where each request's cost is written down."""

    rules: ClassVar = (
        Rule(
            "(has(self.file) ? 1 : 0) + (has(self.claim) ? 1 : 0) + (has(self.postgresSecret) ? 1 : 0) == 1",
            lambda ledger: sum(part is not None for part in (ledger.file, ledger.claim, ledger.postgres_secret)) == 1,
            "name exactly one of file, claim and postgresSecret",
            "file",
        ),
    )

    file: str | None = Field(default=None, min_length=1, max_length=4096, examples=["ledger.db"])
    """SQLite file, for local mode; made when missing."""
    claim: ObjectName | None = Field(default=None, examples=["headrace-ledger"])
    """PersistentVolumeClaim that keeps a SQLite file, for a single router in a cluster."""
    postgres_secret: ObjectName | None = Field(default=None, examples=["headrace-postgres"])
    """Secret whose `dsn` connects to a Postgres database, such as `host=db dbname=headrace user=router`; several
    routers share it."""
    when_away: Literal["accept", "refuse"] = Field(default="accept", examples=["refuse"])
    """What happens to new requests while the ledger cannot be written: `accept` keeps their costs in memory until it
    can (they are lost if the router ends before), `refuse` answers 503."""
