"""The kinds of objects that the operator touches: where each lies, and how much of it is read."""

from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from headrace_api.names import API_VERSION
from headrace_operator.kubernetes import objects

T = TypeVar("T", bound=objects.Item)


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """One kind of object.

    Args:
        version: its `apiVersion`.
        name: its `kind`.
        plural: its name in addresses and in RBAC rules.
        item: what is read of it; `Item` asks the API server for the metadata only.
    """

    version: str
    name: str
    plural: str
    item: type[T]

    @property
    def group(self) -> str:
        """Its API group, empty for the core."""
        group, slash, _ = self.version.partition("/")
        return group if slash else ""

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the address of one object, or of all of them in a namespace or (None) everywhere."""
        root = f"/apis/{self.version}" if "/" in self.version else f"/api/{self.version}"
        parts = [root]
        if namespace is not None:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part is not None]
        return "/".join(parts)


DEPLOYMENTS: Final = Kind("apps/v1", "Deployment", "deployments", objects.DeploymentItem)
STATEFUL_SETS: Final = Kind("apps/v1", "StatefulSet", "statefulsets", objects.DeploymentItem)
PODS: Final = Kind("v1", "Pod", "pods", objects.PodItem)
JOBS: Final = Kind("batch/v1", "Job", "jobs", objects.JobItem)
CLAIMS: Final = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims", objects.ClaimItem)
SERVICE_ACCOUNTS: Final = Kind("v1", "ServiceAccount", "serviceaccounts", objects.Item)
SECRETS: Final = Kind("v1", "Secret", "secrets", objects.Item)
CONFIG_MAPS: Final = Kind("v1", "ConfigMap", "configmaps", objects.Item)
SERVICES: Final = Kind("v1", "Service", "services", objects.Item)
BUDGETS: Final = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", objects.Item)
POLICIES: Final = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", objects.Item)
ROLES: Final = Kind("rbac.authorization.k8s.io/v1", "Role", "roles", objects.Item)
ROLE_BINDINGS: Final = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", objects.Item)
POOLS: Final = Kind(API_VERSION, "LLMPool", "llmpools", objects.PoolItem)

SCALED_OBJECTS: Final = Kind("keda.sh/v1alpha1", "ScaledObject", "scaledobjects", objects.Item)
"""Not among the children that are always watched: the kind is there only where KEDA is."""

LLM_DEPLOYMENTS: Final = Kind(API_VERSION, "LLMDeployment", "llmdeployments", objects.Item)
LLM_ROUTERS: Final = Kind(API_VERSION, "LLMRouter", "llmrouters", objects.Item)
LEASES: Final = Kind("coordination.k8s.io/v1", "Lease", "leases", objects.Item)
EVENTS: Final = Kind("events.k8s.io/v1", "Event", "events", objects.Item)
SLICES: Final = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", objects.Item)
NODES: Final = Kind("v1", "Node", "nodes", objects.NodeItem)

CHILDREN: Final[tuple[Kind[Any], ...]] = (
    DEPLOYMENTS,
    STATEFUL_SETS,
    PODS,
    JOBS,
    CLAIMS,
    SERVICE_ACCOUNTS,
    CONFIG_MAPS,
    SERVICES,
    BUDGETS,
    POLICIES,
    ROLES,
    ROLE_BINDINGS,
    POOLS,
)
"""What the operator makes, or what is made of what it makes: each is watched by its label. Secrets are not among them:
who may watch them may read them all."""

_BY_HEAD: Final = {(kind.version, kind.name): kind for kind in (*CHILDREN, SECRETS, SCALED_OBJECTS)}


def kind_of(version: str, name: str) -> Kind[Any]:
    """Return the kind of an object to be made; raise KeyError for one that the operator never makes."""
    return _BY_HEAD[version, name]
