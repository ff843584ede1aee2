"""What the operator reads of objects: typed, and no more of each than a decision needs.

Decoding skips the rest, which is most of it: a pod of 8 KiB takes 20 µs and leaves 1 KiB.
"""

import msgspec

from headrace_api.names import MANAGER


class Entry(msgspec.Struct, rename="camel"):
    """One line of an object's record of who manages which fields."""

    manager: str = ""
    operation: str = ""
    subresource: str = ""
    fields_v1: msgspec.Raw = msgspec.Raw(b"")


class Owner(msgspec.Struct, frozen=True, rename="camel"):
    """A reference to the object that this one goes away with."""

    kind: str
    name: str
    uid: str
    controller: bool = False


class Metadata(msgspec.Struct, rename="camel"):
    """Who an object is, whose, and as of when."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[Owner, ...] = ()
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    managed_fields: tuple[Entry, ...] = ()
    mark: int = 0
    """Of the fields that the operator applied: it changes when anybody changes the value of one of them or takes it
    away, and neither with fields of others nor with the status. 0: the operator has applied nothing."""
    shared: bool = False
    """Whether somebody else set a field, the status apart."""

    def __post_init__(self) -> None:
        """Keep the mark and let go of the record, which is the largest part of many objects."""
        for entry in self.managed_fields:
            if entry.manager == MANAGER and entry.operation == "Apply" and not entry.subresource:
                self.mark = hash(bytes(entry.fields_v1)) or 1
            elif entry.manager != MANAGER and not entry.subresource:
                self.shared = True
        self.managed_fields = ()

    @property
    def controller(self) -> Owner | None:
        """The one owner that manages this object."""
        return next((owner for owner in self.owner_references if owner.controller), None)

    @property
    def version(self) -> int:
        """Number that grows with each change of any object of the kind."""
        return int(self.resource_version or 0)


class Item(msgspec.Struct, rename="camel"):
    """Any object, by its metadata."""

    metadata: Metadata
    api_version: str = ""
    kind: str = ""


class StatusCondition(msgspec.Struct, frozen=True, rename="camel"):
    """One statement in an object's status."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


class Scale(msgspec.Struct):
    """The one number that others may write."""

    replicas: int = 0


class DeploymentStatus(msgspec.Struct, rename="camel"):
    """How far a Deployment is."""

    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    updated_replicas: int = 0
    conditions: tuple[StatusCondition, ...] = ()


class DeploymentItem(Item):
    """A Deployment, or a StatefulSet."""

    spec: Scale = msgspec.field(default_factory=Scale)
    status: DeploymentStatus = msgspec.field(default_factory=DeploymentStatus)


class Waiting(msgspec.Struct, frozen=True):
    """Why a container does not run yet."""

    reason: str = ""
    message: str = ""


class Terminated(msgspec.Struct, frozen=True, rename="camel"):
    """How a container ended."""

    exit_code: int = 0
    reason: str = ""
    message: str = ""


class ContainerState(msgspec.Struct, frozen=True):
    """One of them is there; `running` is an empty object where the container runs."""

    waiting: Waiting | None = None
    running: dict[str, str] | None = None
    terminated: Terminated | None = None


class ContainerStatus(msgspec.Struct, frozen=True, rename="camel"):
    """A container of a pod."""

    name: str
    ready: bool = False
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodStatus(msgspec.Struct, rename="camel"):
    """Where a pod is in its life."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    conditions: tuple[StatusCondition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class Port(msgspec.Struct, frozen=True, rename="camel"):
    """A port that a container listens on."""

    container_port: int
    name: str = ""


class Container(msgspec.Struct, frozen=True):
    """A container as it was asked for."""

    name: str
    ports: tuple[Port, ...] = ()


class PodSpec(msgspec.Struct, rename="camel"):
    """What a pod was asked to be."""

    containers: tuple[Container, ...] = ()
    node_name: str = ""


class PodItem(Item, dict=True):
    """A pod; what is read out of it may be kept with it."""

    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class JobStatus(msgspec.Struct):
    """How far a Job is."""

    succeeded: int = 0
    failed: int = 0
    active: int = 0
    conditions: tuple[StatusCondition, ...] = ()


class JobItem(Item):
    """A Job."""

    status: JobStatus = msgspec.field(default_factory=JobStatus)


class ClaimStatus(msgspec.Struct):
    """Whether a claim has its volume."""

    phase: str = ""


class ClaimItem(Item):
    """A PersistentVolumeClaim."""

    status: ClaimStatus = msgspec.field(default_factory=ClaimStatus)


class NodeStatus(msgspec.Struct):
    """What a node offers."""

    allocatable: dict[str, str] = {}


class NodeItem(Item):
    """A node."""

    status: NodeStatus = msgspec.field(default_factory=NodeStatus)


class PoolSpec(msgspec.Struct, rename="camel"):
    """An LLMPool as its users and scalers want it."""

    deployment: str = ""
    role: str = ""
    replicas: int | None = None


class PoolStatus(msgspec.Struct, rename="camel"):
    """What an LLMPool was last told of itself."""

    replicas: int = 0
    ready_replicas: int = 0
    selector: str = ""
    observed_generation: int = 0
    revision: str = ""


class PoolItem(Item):
    """An LLMPool."""

    spec: PoolSpec = msgspec.field(default_factory=PoolSpec)
    status: PoolStatus | None = None
