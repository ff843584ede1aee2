"""The backend's questions to workers and router over HTTP; every one has a deadline."""

import re
from dataclasses import dataclass
from typing import Any, Self

import httpx

from headrace_api.names import HEADER_DISAGGREGATE, HEADER_PREFILL, HEADER_PREFILL_WORKERS, KV_TRANSFER_BYTES
from headrace_operator.observed import Progress

_SAMPLE = re.compile(rf"^{KV_TRANSFER_BYTES}_total\{{(?P<labels>[^}}]*)\}} (?P<value>\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Readiness:
    """An answer to `GET /ready`, or to a router's `GET /v1/models`."""

    ready: bool
    progress: Progress | None = None
    models: frozenset[str] = frozenset()


class Client:
    """Asks workers and the router; an answer that does not come is None, not an exception."""

    def __init__(self, deadline_s: float) -> None:
        # trust_env: a proxy in the environment must not stand between this process and its own children
        self._http = httpx.AsyncClient(timeout=deadline_s, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def readiness(self, url: str) -> Readiness | None:
        """Return what the process says at `url`; None where it does not answer."""
        try:
            answer = await self._http.get(url)
        except (httpx.HTTPError, OSError):
            return None
        if answer.status_code == 200:
            return Readiness(ready=True, models=_models(answer))
        return Readiness(ready=False, progress=_progress(answer))

    async def announce_end(self, url: str, incarnation: str) -> bool:
        """Tell the worker at `url` that all processes of `incarnation` have ended; return whether it took note."""
        try:
            answer = await self._http.post(f"{url}/handoff/dead", json={"incarnation": incarnation})
        except (httpx.HTTPError, OSError):
            return False
        return answer.is_success

    async def transferred_bytes(self, url: str, direction: str) -> int | None:
        """Return the worker's count of KV bytes in that direction; None where it does not answer."""
        try:
            answer = await self._http.get(f"{url}/metrics")
        except (httpx.HTTPError, OSError):
            return None
        return sum_transferred(answer.text, direction) if answer.is_success else None

    async def complete(
        self, decode_url: str, prefill_url: str, model: str, prompt_ids: list[int], deadline_s: float
    ) -> tuple[int, str, str]:
        """Run a short completion through both workers; return the status, who prefilled it, and the body's start.

        Raises:
            httpx.HTTPError: no answer within the deadline.
        """
        body: dict[str, Any] = {"model": model, "prompt": prompt_ids, "max_tokens": 2, "temperature": 0, "seed": 0}
        headers = {HEADER_PREFILL_WORKERS: prefill_url, HEADER_DISAGGREGATE: "always"}
        answer = await self._http.post(f"{decode_url}/v1/completions", json=body, headers=headers, timeout=deadline_s)
        return answer.status_code, answer.headers.get(HEADER_PREFILL, ""), answer.text[:500]


def sum_transferred(metrics: str, direction: str) -> int:
    """Return the sum of the transfer counter's samples in that direction, from a page of metrics."""
    label = f'direction="{direction}"'
    return sum(int(float(sample["value"])) for sample in _SAMPLE.finditer(metrics) if label in sample["labels"])


def _models(answer: httpx.Response) -> frozenset[str]:
    """Return the models in an OpenAI-shaped list; none where the answer is something else."""
    try:
        return frozenset(str(model["id"]) for model in answer.json()["data"])
    except (ValueError, KeyError, TypeError):
        return frozenset()


def _progress(answer: httpx.Response) -> Progress | None:
    """Return how far the worker says it is; None where it says nothing of the kind."""
    try:
        content = answer.json()
        return Progress(str(content["phase"]), int(content.get("done", 0)), int(content.get("total", 0)))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
