"""Which workers may have traffic now, and which of them are proved to hand over."""

from headrace_operator.desired import DeploymentName, Desired
from headrace_operator.observed import Endpoint, Observed, Worker


def endpoints(desired: Desired, observed: Observed) -> tuple[Endpoint, ...]:
    """Return every worker that is ready and whose hand-off has been tried, in the order of the snapshot.

    All deployments, whether the router serves them or not.
    """
    usable = {worker.name for name in desired.deployments for worker in usable_workers(name, observed)}
    return tuple(
        Endpoint(worker.name, worker.deployment, worker.role, worker.url, worker.incarnation, worker.pairing)
        for worker in observed.workers
        if worker.name in usable and worker.url is not None
    )


def usable_workers(deployment: DeploymentName, observed: Observed) -> tuple[Worker, ...]:
    """Return the workers of one deployment that may have traffic.

    A decode worker must have taken part in a hand-off that was tried. It is used without one when no prefill worker is
    ready, or when the deployment would otherwise have no decode worker at all: it can run prompts itself, and an
    answer that comes late is better than none. Who came into use that way stays, unless the trial fails.

    A prefill worker must have taken part in one too; one trial is enough, since a decode worker whose hand-off fails
    asks another one, and runs the prompt itself in the end.
    """
    prefills = observed.ready(deployment, "prefill")
    decodes = observed.ready(deployment, "decode")
    unified = observed.ready(deployment, "unified")
    kept = {one.incarnation for one in observed.routed} - {pair.decode for pair in observed.resting}
    tried = tuple(one for one in decodes if one.incarnation in observed.verified | kept or not prefills)
    used = tried if tried or unified else decodes
    served = {decode.pairing for decode in used}
    fit = tuple(one for one in prefills if one.incarnation in observed.verified and one.pairing in served)
    return (*unified, *fit, *used)


def proved(worker: Worker, observed: Observed, *, alone: bool) -> bool:
    """Return whether a ready worker does all that its revision is meant to do.

    Args:
        worker: any ready worker.
        observed: the snapshot that it is from.
        alone: whether no prefill worker is wanted beside it.
    """
    return worker.role == "unified" or (alone and worker.role == "decode") or worker.incarnation in observed.verified
