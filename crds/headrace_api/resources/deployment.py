"""LLMDeployment: one model, served by prefill and decode workers or by unified ones."""

from typing import ClassVar, Literal

from pydantic import Field

from headrace_api.resources.kv import KvSpec
from headrace_api.resources.meta import Part, Resource
from headrace_api.resources.model import ModelSpec
from headrace_api.resources.parallelism import ParallelismSpec
from headrace_api.resources.pods import PodTemplate, Workers
from headrace_api.resources.rollout import RolloutSpec
from headrace_api.resources.rules import Rule
from headrace_api.resources.scaling import ScalingSpec
from headrace_api.resources.status import DeploymentStatus

Disaggregation = Literal["auto", "always", "never"]
Accelerator = Literal["auto", "cpu", "nvidia"]


class PrefillSpec(Workers):
    """The workers that run prompts and hand their KV over."""

    replicas: int | None = Field(default=None, ge=0, le=1024, examples=[1])
    """Number of prefill workers. Left out: 1, or 0 when disaggregation is `never`. In a cluster it is written to the
    LLMPool when it is set or changed; what scales the pool later wins until then."""


class DecodeSpec(Workers):
    """The workers that generate tokens; with disaggregation `never` they run the prompts too."""

    replicas: int | None = Field(default=None, ge=1, le=1024, examples=[1])
    """Number of decode (or unified) workers. Left out: 1. In a cluster it is written to the LLMPool when it is set or
    changed; what scales the pool later wins until then."""


class EngineSpec(Part):
    """How much one step of a worker takes on."""

    max_running: int = Field(default=64, ge=1, le=65536, examples=[64])
    """Most sequences in one step of a worker; more wait."""
    chunk_tokens: int = Field(default=512, ge=1, le=1048576, examples=[512])
    """Most prompt tokens computed in one step (chunked prefill). Smaller chunks delay running answers less and cost
    prompt throughput."""


class FrontSpec(Part):
    """The deployment's own endpoint."""

    enabled: bool = Field(default=True, examples=[False])
    """Whether the deployment has a router and a Service of its own. Without them an LLMRouter serves it, or nobody.
    Local mode always starts one router for all."""
    replicas: int = Field(default=1, ge=1, le=64, examples=[2])
    """Number of router pods; any of them takes any request. Local mode starts one process."""


class DeploymentSpec(Part):
    """One model and how it is served. Only `model.uri` is needed."""

    rules: ClassVar = (
        Rule(
            "self.disaggregation != 'never' || self.?prefill.?replicas.orValue(0) == 0",
            lambda spec: spec.disaggregation != "never" or not spec.prefill.replicas,
            "disaggregation never has no prefill workers; leave prefill.replicas out or set it to 0",
            "prefill.replicas",
        ),
        Rule(
            "self.disaggregation != 'always' || self.?prefill.?replicas.orValue(1) > 0",
            lambda spec: spec.disaggregation != "always" or spec.prefill.replicas != 0,
            "disaggregation always needs a prefill worker; set prefill.replicas to at least 1 or use auto",
            "prefill.replicas",
        ),
        Rule(
            "self.disaggregation != 'never' || !has(self.scaling) || !has(self.scaling.ratio)",
            lambda spec: spec.disaggregation != "never" or spec.scaling is None or spec.scaling.ratio is None,
            "disaggregation never has one pool only, so that no ratio can be held; leave scaling.ratio out",
            "scaling.ratio",
        ),
        Rule(
            "!self.?kv.?offload.hasValue() || self.?parallelism.?tensor.orValue(1) == 1",
            lambda spec: spec.kv.offload is None or spec.parallelism.tensor == 1,
            "several ranks cannot offload KV blocks yet; leave kv.offload out or set parallelism.tensor to 1",
            "kv.offload",
        ),
    )

    model: ModelSpec
    """Which weights are served, and in which arithmetic."""
    accelerator: Accelerator = Field(default="auto", examples=["nvidia"])
    """What workers compute on. `nvidia`: each has one GPU (`nvidia.com/gpu`); `cpu`: none; `auto`: a GPU where some
    node offers one, else none. Local mode takes what the machine has."""
    disaggregation: Disaggregation = Field(default="auto", examples=["auto"])
    """Whether prompts run on workers of their own. `auto`: yes, except prompts so short that the hand-off would cost
    more than it saves; `always`: every prompt; `never`: unified workers do both parts."""
    prefill: PrefillSpec = PrefillSpec()
    """The workers that run prompts and hand their KV over."""
    decode: DecodeSpec = DecodeSpec()
    """The workers that generate tokens; with disaggregation `never` they run the prompts too."""
    kv: KvSpec = KvSpec()
    """Keys and values of the tokens in context: where they are kept and how they travel."""
    engine: EngineSpec = EngineSpec()
    """How much one step of a worker takes on."""
    parallelism: ParallelismSpec = ParallelismSpec()
    """How each worker divides the model among several devices."""
    rollout: RolloutSpec = RolloutSpec()
    """How a new revision of the workers takes the place of the old one. Local mode starts anew instead."""
    scaling: ScalingSpec | None = Field(default=None, examples=[{"decode": {"maxReplicas": 16}}])
    """How the number of workers follows the load. Left out: it does not, and `replicas` and `kubectl scale` set it.
    Local mode ignores it."""
    router: FrontSpec = FrontSpec()
    """The deployment's own endpoint."""
    template: PodTemplate = PodTemplate()
    """Laid over the pod template of all workers; what a role's own `template` says wins. Local mode ignores it."""


class LLMDeployment(Resource):
    """One model behind an OpenAI-compatible endpoint; clients name it by `metadata.name`."""

    plural: ClassVar = "llmdeployments"
    short_name: ClassVar = "llm"
    categories: ClassVar = ("headrace", "all")
    columns: ClassVar = (
        ("Model", "string", ".spec.model.uri"),
        ("Mode", "string", ".status.mode"),
        ("P", "string", ".status.prefill.summary"),
        ("D", "string", ".status.decode.summary"),
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        ("Endpoint", "string", ".status.endpoint"),
        ("Reason*", "string", '.status.conditions[?(@.type=="Ready")].reason'),
    )

    kind: Literal["LLMDeployment"] = "LLMDeployment"
    """Which resource this is."""
    spec: DeploymentSpec
    """One model and how it is served."""
    status: DeploymentStatus | None = None
    """What the operator reports on it."""
