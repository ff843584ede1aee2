"""How images are named and pulled, and what every container says of its end."""

from headrace_operator.objects.owner import Manifest
from headrace_operator.objects.site import Site


def image_fields(image: str, site: Site) -> Manifest:
    """Return a container's image with the way it is pulled.

    The last lines of the log become the termination message of a container that failed: the operator reads the reason
    from the pod's status and needs no right to read logs.
    """
    return {
        "image": image,
        "imagePullPolicy": site.image_pull_policy,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def pull_secrets(site: Site) -> Manifest:
    """Return the pod's references to the registry's credentials."""
    if not site.image_pull_secrets:
        return {}
    return {"imagePullSecrets": [{"name": name} for name in site.image_pull_secrets]}
