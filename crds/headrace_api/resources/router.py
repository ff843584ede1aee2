"""LLMRouter: several deployments and endpoints behind one address."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from headrace_api.resources.cascade import Cascade
from headrace_api.resources.endpoint import Endpoint
from headrace_api.resources.labels import DnsLabel, Name
from headrace_api.resources.meta import Part, Resource
from headrace_api.resources.money import Auth, Budget, Currency, Ledger, Price
from headrace_api.resources.rules import Rule
from headrace_api.resources.status import RouterStatus


class Tier(Part):
    """One deployment, or endpoint of somebody else, that the router may send requests to."""

    rules: ClassVar = (
        Rule(
            "has(self.deployment) != has(self.endpoint)",
            lambda tier: (tier.deployment is None) != (tier.endpoint is None),
            "a tier names either a deployment or an endpoint",
            "deployment",
        ),
        Rule(
            "!has(self.endpoint) || !has(self.price) || !has(self.price.gpuHour)",
            lambda tier: tier.endpoint is None or tier.price is None or tier.price.gpu_hour is None,
            "nobody knows the GPU-seconds of an endpoint; give its price by inputTokens and outputTokens",
            "price",
        ),
    )

    name: DnsLabel = Field(examples=["small"])
    """Name of the tier, unique in the router."""
    deployment: Name | None = Field(default=None, examples=["smollm2"])
    """`metadata.name` of the LLMDeployment that serves this tier."""
    endpoint: Endpoint | None = Field(
        default=None,
        examples=[{"url": "https://api.example.com/v1", "model": "large-1", "keySecret": {"name": "example-com"}}],
    )
    """The OpenAI-compatible endpoint that serves it, in place of a deployment."""
    price: Price | None = Field(default=None, examples=[{"gpuHour": 2.5}])
    """What this tier costs. Left out: nothing, and its answers say so."""
    capacity: int | None = Field(default=None, ge=1, le=1_000_000, examples=[64])
    """Requests that each router sends there at once. While it is full, those that leave the choice go to another tier,
    and those that name it are answered 429. Left out: as many as come."""

    @property
    def model(self) -> str:
        """The model id under which a router knows what serves the tier: an endpoint has the tier's own name."""
        return self.name if self.deployment is None else self.deployment


class RouterSpec(Part):
    """Which deployments the router serves."""

    rules: ClassVar = (
        Rule(
            "!has(self.ledger) || has(self.ledger.postgresSecret) || self.replicas == 1",
            lambda spec: spec.ledger is None or spec.ledger.postgres_secret is not None or spec.replicas == 1,
            "several replicas cannot share a ledger in SQLite; use ledger.postgresSecret, or one replica",
            "replicas",
        ),
        Rule(
            "!has(self.budgets) || self.budgets.size() == 0 || self.replicas == 1",
            lambda spec: not spec.budgets or spec.replicas == 1,
            "several replicas would each spend a budget by themselves; use one replica",
            "replicas",
        ),
        Rule(
            "!self.tiers.exists(one, has(one.endpoint) && "
            "self.tiers.exists(other, has(other.deployment) && other.deployment == one.name))",
            lambda spec: (
                not (
                    {tier.name for tier in spec.tiers if tier.endpoint is not None}
                    & {tier.deployment for tier in spec.tiers}
                )
            ),
            "an endpoint's tier has the name of another tier's deployment; requests could not tell them apart",
            "tiers",
        ),
        Rule(
            "!has(self.cascade) || !has(self.cascade.verifier) || "
            "self.tiers.exists(tier, tier.name == self.cascade.verifier)",
            lambda spec: (
                spec.cascade is None
                or spec.cascade.verifier is None
                or spec.cascade.verifier in {tier.name for tier in spec.tiers}
            ),
            "cascade.verifier names no tier; name one of spec.tiers",
            "cascade",
        ),
    )

    tiers: tuple[Tier, ...] = Field(
        min_length=1,
        max_length=64,
        strict=False,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        examples=[[{"name": "small", "deployment": "smollm2"}]],
    )
    """What is behind this router; it serves nothing else."""
    replicas: int = Field(default=1, ge=1, le=64, examples=[2])
    """Number of router pods; any of them takes any request. Local mode starts one process."""
    currency: Currency = Field(default="USD", examples=["EUR"])
    """ISO 4217 code of all prices and budgets."""
    auth: Auth | None = Field(default=None, examples=[{"keysSecret": "headrace-keys"}])
    """Who may send requests. Left out: everybody, without a key."""
    ledger: Ledger | None = Field(default=None, examples=[{"file": "ledger.db"}])
    """Where each request's cost is written down. Left out: nowhere; answers still state it."""
    budgets: tuple[Budget, ...] = Field(
        default=(),
        max_length=256,
        strict=False,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        examples=[[{"name": "search-monthly", "scope": "team", "of": "search", "hard": 100}]],
    )
    """What keys, teams and organisations may spend; a request counts in each budget that it falls under. They need
    `auth`, and a ledger to outlive a restart of the router."""
    cascade: Cascade | None = Field(
        default=None, examples=[{"policy": "cheapest-first", "gate": {"configMap": {"name": "headrace-gate"}}}]
    )
    """How requests for `model: auto` go through the tiers. Left out: the first tier that has a worker answers."""

    @property
    def deployments(self) -> tuple[tuple[str, str], ...]:
        """Return the LLMDeployments that it needs, each with what names it, such as `tier small`."""
        named = [(f"tier {tier.name}", tier.deployment) for tier in self.tiers if tier.deployment is not None]
        if self.cascade is not None and self.cascade.encoder is not None:
            named.append(("cascade.encoder", self.cascade.encoder))
        return tuple(named)

    @property
    def keeps_books(self) -> bool:
        """Whether anything of money is asked for."""
        return any((self.auth, self.ledger, self.budgets, *(tier.price for tier in self.tiers)))

    @property
    def chooses(self) -> bool:
        """Whether requests that leave the choice to the router may go to more than one tier."""
        return self.cascade is not None and self.cascade.policies != {"pinned"} and len(self.tiers) > 1

    def books_json(self) -> str:
        """Return what a router reads of it, as JSON that changes only with it."""
        kept = {"tiers", "currency", "ledger", "budgets", "cascade"}
        return self.model_dump_json(by_alias=True, exclude_none=True, include=kept)

    @model_validator(mode="after")
    def _name_tiers_apart(self) -> Self:
        if len({tier.name for tier in self.tiers}) < len(self.tiers):
            raise ValueError("two tiers have the same name; give each its own")
        if len({budget.name for budget in self.budgets}) < len(self.budgets):
            raise ValueError("two budgets have the same name; give each its own")
        return self


class LLMRouter(Resource):
    """One OpenAI-compatible address for several deployments."""

    plural: ClassVar = "llmrouters"
    short_name: ClassVar = "llmrouter"
    categories: ClassVar = ("headrace", "all")
    columns: ClassVar = (
        ("Replicas", "integer", ".spec.replicas"),
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        ("Endpoint", "string", ".status.endpoint"),
        ("Reason*", "string", '.status.conditions[?(@.type=="Ready")].reason'),
    )

    kind: Literal["LLMRouter"] = "LLMRouter"
    """Which resource this is."""
    spec: RouterSpec
    """Which deployments the router serves."""
    status: RouterStatus | None = None
    """What the operator reports on it."""
