"""Whether the router lives, and which workers it knows."""

import msgspec

from headrace_router.discovery.registry import Registry

_encode = msgspec.json.Encoder().encode


def health(registry: Registry, *, draining: bool) -> tuple[int, bytes]:
    """Return status and body of `GET /health`: 200 while the router takes requests, whatever its workers do.

    A router without workers is well: restarting it would help nobody.
    """
    models = {
        model: {"decode": len(deployment.decoders), "prefill": len(deployment.prefillers)}
        for model, deployment in registry.deployments.items()
    }
    return (
        (503, _encode({"status": "draining", "models": models}))
        if draining
        else (
            200,
            _encode({"status": "ok", "models": models}),
        )
    )
