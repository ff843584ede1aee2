"""Tells decode workers which prefill pods can write no more, so that blocks in quarantine come back.

Said only of pods whose containers have all terminated by the kubelet's own word, and that are not started again: a pod
that was deleted by force, or whose node is lost, may still run and write.
"""

import hashlib
import hmac
import logging
from collections.abc import Iterable

from headrace_api.handoff import Dead
from headrace_api.names import LABEL_ROLE
from headrace_operator.http.client import Client
from headrace_operator.kubernetes.cache import Key
from headrace_operator.kubernetes.memory import Memory
from headrace_operator.kubernetes.objects import Item, PodItem
from headrace_operator.kubernetes.pods import LABEL_POD, has_ended
from headrace_operator.observed import Phase, Worker

logger = logging.getLogger(__name__)

_LISTENS = frozenset({Phase.READY, Phase.DRAINING, Phase.STARTING})


def ended_prefill(old: Item | None, new: Item | None) -> str | None:
    """Return the UID of a prefill pod whose end a change proves; None where it proves none."""
    pod = new or old
    if not isinstance(pod, PodItem) or pod.metadata.labels.get(LABEL_ROLE) != "prefill":
        return None
    if LABEL_POD in pod.metadata.labels:
        return None  # a head: other pods of its worker write too, and nothing is said of them
    return pod.metadata.uid if has_ended(pod) else None


def listeners(workers: Iterable[Worker]) -> set[str]:
    """Return the decode workers that may have granted blocks to a pod that has ended."""
    return {worker.incarnation for worker in workers if worker.role == "decode" and worker.phase is not Phase.DEAD}


async def tell(memory: Memory, workers: Iterable[Worker], client: Client, secret: str) -> bool:
    """Tell whoever has not been told yet; return whether all have, or have ended themselves."""
    decoders = {worker.incarnation: worker for worker in workers if worker.role == "decode"}
    for pod, waiting in list(memory.ended.items()):
        for incarnation in list(waiting):
            worker = decoders.get(incarnation)
            if worker is None or worker.phase not in _LISTENS or worker.url is None:
                waiting.discard(incarnation)
            elif await client.announce_end(worker.url, Dead(pod=pod), secret):
                waiting.discard(incarnation)
                logger.info("%s took note that no process of pod %s is left", worker.name, pod)
        if not waiting:
            del memory.ended[pod]
    return not memory.ended


def shared_secret(key: bytes, owner: Key, uid: str) -> str:
    """Return the secret of a deployment's workers.

    Derived from the operator's own key, so that every operator that has the key knows it, and none needs the right to
    read Secrets.
    """
    return hmac.new(key, f"{owner.namespace}/{owner.name}/{uid}".encode(), hashlib.sha256).hexdigest()
