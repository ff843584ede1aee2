"""Whether the router lives, and which workers it knows."""

from collections.abc import Iterable, Mapping

import msgspec

from headrace_router.discovery.registry import Member, Registry

_encode = msgspec.json.Encoder().encode


def health(registry: Registry, problems: Mapping[str, str], *, draining: bool) -> tuple[int, bytes]:
    """Return status and body of `GET /health`: 200 while the router takes requests, whatever its workers do.

    A router without workers is well: restarting it would help nobody. The URLs of the workers that it would choose
    from now are listed by model and role, so that whoever changed the list can see that it has arrived.

    Args:
        registry: of workers.
        problems: why model files of the cascade cannot be used, by what they are; requests go on without them.
        draining: whether no more requests are taken.
    """
    models = {
        model: {"decode": _urls(deployment.decoders), "prefill": _urls(deployment.prefillers)}
        for model, deployment in registry.deployments.items()
    }
    status, word = (503, "draining") if draining else (200, "ok")
    return status, _encode({"status": word, "models": models, "problems": problems})


def _urls(members: Iterable[Member]) -> list[str]:
    return [member.worker.url for member in members if not member.worker.external]
