"""The settings of the workers of one revision, as the file that they read at their start."""

import json
from dataclasses import asdict
from typing import Any, Final

from headrace_api.resources import LLMDeployment
from headrace_operator.desired import Pool
from headrace_operator.objects import disk, labels, names
from headrace_operator.objects.owner import Manifest, Owner
from headrace_operator.objects.site import Site
from headrace_operator.objects.weights import Weights

FILE: Final = "settings.json"
_DEVICES: Final = {"cpu": "cpu", "nvidia": "cuda"}


def settings(deployment: LLMDeployment, pool: Pool, site: Site) -> dict[str, Any]:
    """Return the worker settings that are equal for all workers of a pool; the rest is in their arguments.

    A field that is left open is left out, so that the worker's own default holds.
    """
    spec = deployment.spec
    template = {name: value for name, value in asdict(pool.template).items() if value is not None}
    template.pop("offload_path", None)  # a folder of the user's machine
    return {
        **template,
        "model": Weights.of(deployment).uri,
        "name": deployment.metadata.name,
        "role": pool.role,
        "device": _DEVICES[site.accelerator(spec.accelerator)],
        "drain_s": spec.rollout.drain_timeout_s,
        **({"offload_path": disk.FOLDER} if pool.template.offload_disk_bytes else {}),
    }


def config_map(deployment: LLMDeployment, pool: Pool, site: Site) -> Manifest:
    """Return the ConfigMap of a revision; another content has another name, so it never changes."""
    owner = Owner.of(deployment)
    name = names.revision(owner.name, pool.role, pool.revision)
    text = json.dumps(settings(deployment, pool, site), sort_keys=True, indent=1)
    return owner.manifest("ConfigMap", "v1", name, labels.of_pool(owner, pool), immutable=True, data={FILE: text})
