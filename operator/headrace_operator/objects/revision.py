"""What tells one generation of workers from the next, and which of them may hand KV to each other."""

from dataclasses import replace

from headrace_api.resources import LLMDeployment
from headrace_operator.desired import Pool
from headrace_operator.objects.digest import digest
from headrace_operator.objects.group import members
from headrace_operator.objects.pod import pod_template
from headrace_operator.objects.settings import settings
from headrace_operator.objects.site import Site


def stamped(deployment: LLMDeployment, pool: Pool, site: Site) -> Pool:
    """Return the pool with its revision and pairing, as its objects need it."""
    paired = replace(pool, pairing=pairing(deployment, pool, site))
    return replace(paired, revision=revision(deployment, paired, site))


def revision(deployment: LLMDeployment, pool: Pool, site: Site) -> str:
    """Return a hash over all that a worker's pod is made of: it changes when, and only when, a pod would change.

    The number of workers, the pace of a rollout and the router are no part of a pod, and change no revision.
    """
    bare = replace(pool, revision="", pairing=pairing(deployment, pool, site))
    made_of = [pod_template(deployment, bare, site), settings(deployment, bare, site)]
    if pool.nodes > 1:
        made_of.append(members(deployment, bare, site)["spec"]["template"])
    return digest(made_of)


def pairing(deployment: LLMDeployment, pool: Pool, site: Site) -> str:
    """Return a hash over what both sides of a hand-off must have alike.

    Besides the template's own part that is what may change the layout of KV or the protocol: the device and the
    operator's image. An image of a user's template is not seen here; if it cannot be paired with, the workers say so.
    """
    return digest([pool.template.pairing(), site.accelerator(deployment.spec.accelerator), site.worker_image])
