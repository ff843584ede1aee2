"""The Secret that the workers of one deployment share."""

import base64

from headrace_operator.objects import labels, names
from headrace_operator.objects.owner import Manifest, Owner


def handoff_secret(owner: Owner, value: str) -> Manifest:
    """Return the Secret by which workers know each other.

    Args:
        owner: the deployment.
        value: random text; made once by the operator, which never reads it again.
    """
    return owner.manifest(
        "Secret",
        "v1",
        names.handoff_secret(owner.name),
        labels.common(owner, labels.WORKER),
        type="Opaque",
        immutable=True,
        data={"secret": base64.b64encode(value.encode()).decode()},
    )
