"""The claim that keeps a deployment's weights, and the Job that fills it."""

from typing import Final

from headrace_api.resources import LLMDeployment
from headrace_api.resources.pods import Workers
from headrace_operator.objects import labels, names, placement, security
from headrace_operator.objects.digest import digest
from headrace_operator.objects.images import image_fields, pull_secrets
from headrace_operator.objects.owner import Manifest, Owner
from headrace_operator.objects.placement import toleration
from headrace_operator.objects.site import Site
from headrace_operator.objects.weights import Weights

TOKEN_KEY: Final = "token"  # noqa: S105  # a name, no token
FETCH_FOLDER: Final = "/etc/headrace/fetch"
FETCH_VARIABLES: Final = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT", "UV_DEFAULT_INDEX", "UV_INDEX"),
    *("HF_ENDPOINT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)
"""Keys of the fetch Secret that become variables of the Job. Not all keys do: a file of authorities may be longer than
a variable can be, and the container would not start."""
_RETRIES: Final = 2**31 - 1
"""Never given up: a hub that is down or a licence not yet accepted is for a person to mend, and the next try, at most
five minutes later, sees it."""


def models_claim(deployment: LLMDeployment) -> Manifest | None:
    """Return the claim for the cache; None where the user names one, or no cache is needed."""
    owner, cache = Owner.of(deployment), deployment.spec.model.cache
    if cache.claim is not None or not Weights.of(deployment).cached:
        return None
    spec: Manifest = {
        "accessModes": _access_modes(cache.access_mode),
        "resources": {"requests": {"storage": cache.requested_size}},
    }
    if cache.storage_class is not None:
        spec["storageClassName"] = cache.storage_class
    own_labels = labels.common(owner, labels.MODELS, "models")
    return owner.manifest("PersistentVolumeClaim", "v1", names.models(owner.name), own_labels, spec=spec)


def fetch_job(deployment: LLMDeployment, site: Site) -> Manifest | None:
    """Return the Job that fills the claim; None where there is nothing to fetch.

    A Job's template cannot be changed: whatever a user can change of it is in its name, so that the change makes
    another Job. An operator's new image is not: what was fetched stays fetched.
    """
    weights = Weights.of(deployment)
    if not weights.cached or weights.read_only_claim:
        return None
    owner = Owner.of(deployment)
    own_labels = labels.common(owner, labels.MODELS, "models")
    spec = {
        "backoffLimit": _RETRIES,
        "template": {"metadata": {"labels": own_labels}, "spec": _pod(deployment, weights, site)},
    }
    return owner.manifest("Job", "batch/v1", names.fetch(owner.name, _wanted(deployment)), own_labels, spec=spec)


def _access_modes(mode: str) -> list[str]:
    """Return the claim's modes: a volume that many read was first filled by one."""
    return ["ReadWriteOnce", mode] if mode == "ReadOnlyMany" else [mode]


def _wanted(deployment: LLMDeployment) -> str:
    model, cache = deployment.spec.model, deployment.spec.model.cache
    return digest([model.uri, model.token_secret, cache.claim, cache.access_mode, _place(deployment.spec.decode)])


def _pod(deployment: LLMDeployment, weights: Weights, site: Site) -> Manifest:
    owner = Owner.of(deployment)
    return {
        "serviceAccountName": names.worker_account(owner.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "OnFailure",
        "securityContext": security.pod_security(),
        **pull_secrets(site),
        **_place(deployment.spec.decode),
        **(placement.together(owner) if weights.one_node else {}),
        "containers": [_container(deployment, weights, site)],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "fetch", "secret": {"secretName": site.fetch_secret, "optional": True}},
            *weights.volumes(),
        ],
    }


def _place(workers: Workers) -> Manifest:
    """Return where the Job may run: where decode workers may, since it decides in which zone the volume is made."""
    selector = {"nodeSelector": dict(workers.node_selector)} if workers.node_selector else {}
    tolerations = [toleration(one) for one in workers.tolerations]
    return {**selector, **({"tolerations": tolerations} if tolerations else {})}


def _container(deployment: LLMDeployment, weights: Weights, site: Site) -> Manifest:
    return {
        "name": "fetch",
        **image_fields(site.worker_image, site),
        "command": ["python3", "-m", "headrace_worker.fetch", weights.uri],
        "env": [
            *_token(deployment),
            *(_variable(name, site) for name in FETCH_VARIABLES),
            {"name": "HOME", "value": "/tmp"},  # noqa: S108  # a volume
            *weights.environment,
        ],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        "securityContext": security.container_security(),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  # a volume of the pod's own
            # keys of the secret as files too, which the variables may name
            {"name": "fetch", "mountPath": FETCH_FOLDER, "readOnly": True},
            *weights.mounts(read_only=False),
        ],
    }


def _variable(name: str, site: Site) -> Manifest:
    """Return a variable from the fetch Secret, left out where the Secret or its key is not there."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": site.fetch_secret, "key": name, "optional": True}}}


def _token(deployment: LLMDeployment) -> list[Manifest]:
    """Return the variable with the hub's token: a secret that is missing keeps the pod waiting until it is there."""
    name = deployment.spec.model.token_secret
    if name is None:
        return []
    return [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": name, "key": TOKEN_KEY}}}]
