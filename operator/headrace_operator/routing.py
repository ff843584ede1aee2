"""Which workers may have traffic now."""

from headrace_operator.desired import DeploymentName, Desired
from headrace_operator.observed import Endpoint, Observed, Pair, Worker


def endpoints(desired: Desired, observed: Observed) -> tuple[Endpoint, ...]:
    """Return every worker that is ready and whose hand-offs have been tried, in the order of the snapshot.

    All deployments, whether the router serves them or not.
    """
    usable = {worker.name for name in desired.deployments for worker in usable_workers(name, observed)}
    return tuple(
        Endpoint(worker.name, worker.deployment, worker.role, worker.url, worker.incarnation)
        for worker in observed.workers
        if worker.name in usable and worker.url is not None
    )


def usable_workers(deployment: DeploymentName, observed: Observed) -> tuple[Worker, ...]:
    """Return the workers of one deployment that may have traffic.

    A decode worker needs one verified prefill worker. It is used without one when no prefill worker is ready, or when
    the deployment would otherwise have no decode worker at all: it can run prompts itself, and an answer that comes
    late is better than none. A prefill worker needs to be verified with every decode worker in use, since each of
    them may be told to ask it.
    """
    prefills = observed.ready(deployment, "prefill")
    decodes = observed.ready(deployment, "decode")
    tried = tuple(decode for decode in decodes if any(_verified(observed, prefill, decode) for prefill in prefills))
    used = tried if tried and prefills else decodes
    fit = tuple(prefill for prefill in prefills if used and all(_verified(observed, prefill, one) for one in used))
    return (*observed.ready(deployment, "unified"), *fit, *used)


def _verified(observed: Observed, prefill: Worker, decode: Worker) -> bool:
    return Pair(prefill.incarnation, decode.incarnation) in observed.verified
