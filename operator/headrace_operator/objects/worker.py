"""The Deployment that holds the workers of one revision."""

from typing import Final

from headrace_api.resources import LLMDeployment
from headrace_operator.desired import Pool
from headrace_operator.objects import labels, names
from headrace_operator.objects.owner import Manifest, Owner
from headrace_operator.objects.pod import LOAD_S, pod_template
from headrace_operator.objects.site import Site

_MARGIN_S: Final = 600
"""Beyond loading: pulling the image and waiting for the proof of the hand-off."""


def worker_deployment(deployment: LLMDeployment, pool: Pool, site: Site) -> Manifest:
    """Return the Deployment of one revision of a role.

    Its pod template never changes, another one has another revision and so another Deployment: moving from one to
    the next is the operator's work, since both roles must move together.
    """
    owner = Owner.of(deployment)
    name = names.revision(owner.name, pool.role, pool.revision)
    spec = {
        "replicas": pool.replicas,
        "revisionHistoryLimit": 0,
        "progressDeadlineSeconds": LOAD_S + _MARGIN_S,
        "selector": {"matchLabels": labels.select_pool(owner, pool)},
        "template": pod_template(deployment, pool, site),
    }
    return owner.manifest("Deployment", "apps/v1", name, labels.of_pool(owner, pool), spec=spec)
