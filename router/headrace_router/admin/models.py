"""The list of models as OpenAI clients read it."""

from collections.abc import Iterable

import msgspec

_encode = msgspec.json.Encoder().encode


def _card(model: str, created: int) -> dict[str, str | int]:
    return {"id": model, "object": "model", "created": created, "owned_by": "headrace"}


def model_card(model: str, created: int) -> bytes:
    """Return the answer to `GET /v1/models/{model}`; `created` is in Unix seconds."""
    return _encode(_card(model, created))


def model_list(models: Iterable[str], created: int) -> bytes:
    """Return the answer to `GET /v1/models`."""
    return _encode({"object": "list", "data": [_card(model, created) for model in sorted(models)]})
