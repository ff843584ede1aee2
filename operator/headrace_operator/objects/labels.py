"""Labels of the objects, and the selectors over them.

Only worker pods carry the role: routers find workers by it.
"""

from typing import Final, Literal

from headrace_api.names import (
    LABEL_COMPONENT,
    LABEL_DEPLOYMENT,
    LABEL_INSTANCE,
    LABEL_MANAGED_BY,
    LABEL_NAME,
    LABEL_PAIRING,
    LABEL_PART_OF,
    LABEL_REVISION,
    LABEL_ROLE,
    MANAGER,
)
from headrace_operator.desired import Pool, Role
from headrace_operator.objects.owner import Owner

Application = Literal["headrace-worker", "headrace-router", "headrace-models"]
WORKER: Final = "headrace-worker"
ROUTER: Final = "headrace-router"
MODELS: Final = "headrace-models"


def common(owner: Owner, application: Application, component: str | None = None) -> dict[str, str]:
    """Return what every object carries; `component` is left out where an object is for several of them."""
    return {
        LABEL_NAME: application,
        LABEL_INSTANCE: owner.name,
        **({} if component is None else {LABEL_COMPONENT: component}),
        LABEL_MANAGED_BY: MANAGER,
        LABEL_PART_OF: MANAGER,
        **owner.label,
    }


def of_role(owner: Owner, role: Role) -> dict[str, str]:
    """Return the labels of an object that is for one role, whatever its revision."""
    return {**common(owner, WORKER, role), LABEL_ROLE: role}


def of_pool(owner: Owner, pool: Pool) -> dict[str, str]:
    """Return the labels of one revision of a role: its ConfigMap, Deployment and pods."""
    return {**of_role(owner, pool.role), LABEL_REVISION: pool.revision, LABEL_PAIRING: pool.pairing}


def select_pool(owner: Owner, pool: Pool) -> dict[str, str]:
    """Return what selects the pods of one revision; a Deployment can never change it."""
    return {**select_role(owner, pool.role), LABEL_REVISION: pool.revision}


def of_members(owner: Owner, pool: Pool) -> dict[str, str]:
    """Return the labels of pods that belong to workers and are none themselves: they have no role."""
    own = common(owner, WORKER, members_of(pool.role))
    return {**own, LABEL_REVISION: pool.revision, LABEL_PAIRING: pool.pairing}


def select_members(owner: Owner, pool: Pool) -> dict[str, str]:
    """Return what selects those of one revision."""
    return {**owner.label, LABEL_COMPONENT: members_of(pool.role), LABEL_REVISION: pool.revision}


def members_of(role: Role) -> str:
    """Return the component that members of a role's workers are."""
    return f"{role}-members"


def select_role(owner: Owner, role: Role) -> dict[str, str]:
    """Return what selects the pods of a role, those of all its revisions."""
    return {LABEL_DEPLOYMENT: owner.name, LABEL_ROLE: role}


def select_application(owner: Owner, application: Application) -> dict[str, str]:
    """Return what selects all worker, router or model pods of an owner."""
    return {LABEL_NAME: application, **owner.label}


def spell(selector: dict[str, str]) -> str:
    """Return a selector as text, as `status.selector` and queries of the API server have it."""
    return ",".join(f"{name}={value}" for name, value in selector.items())
