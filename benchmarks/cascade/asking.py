"""Asks a model all prompts through our own worker, by frames; what was answered once is kept from run to run."""

import asyncio
import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks import fleet
from headrace_api import names
from headrace_api.frames import FrameReader, decode_head
from headrace_worker.fetch import cache_root

SETTINGS: dict[str, Any] = {"temperature": 0, "seed": 1, "max_tokens": 32, "stop": ["\n"]}
"""Greedy, and over at the end of the line."""
AT_ONCE = 16
_DEADLINE_S = 1200.0

Answer = dict[str, Any]
"""`text`, and `tokens` and `finish` as `headrace cascade` reads them."""


class Kept:
    """Answers of one model on this machine; a line for each, added as it comes, so that a killed run loses little."""

    def __init__(self, model: str) -> None:
        told = json.dumps([model, SETTINGS], sort_keys=True)
        self._file = cache_root() / "answers" / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.jsonl"
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._answers: dict[str, Answer] = {}
        for line in self._file.read_text().splitlines() if self._file.exists() else []:
            try:
                self._answers.update([json.loads(line)])
            except ValueError:
                continue  # the end of a run that was killed

    def get(self, prompt: str) -> Answer | None:
        """Return what was answered to a prompt."""
        return self._answers.get(_key(prompt))

    def add(self, prompt: str, answer: Answer) -> None:
        """Keep an answer."""
        self._answers[_key(prompt)] = answer
        with self._file.open("a") as file:
            file.write(json.dumps([_key(prompt), answer]) + "\n")


def _key(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()


def answers(model: str, prompts: Sequence[str], progress: Callable[[int, int], None]) -> list[Answer]:
    """Return a model's answers; `progress` is told (done, of) while some are still to be generated."""
    kept = Kept(model)
    missing = [prompt for prompt in prompts if kept.get(prompt) is None]
    if missing:
        with tempfile.TemporaryDirectory() as folder, fleet.worker(Path(folder), "worker", model=model) as worker:
            asyncio.run(_ask(worker.url, missing, kept, progress))
    found = [kept.get(prompt) for prompt in prompts]
    return [answer for answer in found if answer is not None]


async def _ask(url: str, prompts: Sequence[str], kept: Kept, progress: Callable[[int, int], None]) -> None:
    free, done = asyncio.Semaphore(AT_ONCE), 0

    async def ask(prompt: str) -> None:
        nonlocal done
        async with free:
            kept.add(prompt, await _answer(client, prompt))
        done += 1
        progress(done, len(prompts))

    async with (
        httpx.AsyncClient(base_url=url, timeout=_DEADLINE_S, trust_env=False) as client,
        asyncio.TaskGroup() as all_,
    ):
        for prompt in prompts:
            all_.create_task(ask(prompt))


async def _answer(client: httpx.AsyncClient, prompt: str) -> Answer:
    body = {"model": "bench", "prompt": prompt, **SETTINGS}
    answer = await client.post("/v1/completions", json=body, headers={names.HEADER_FRAMES: "1"})
    if answer.status_code != httpx.codes.OK:
        raise RuntimeError(f"the worker answered {answer.status_code}: {answer.text[:500]}")
    tokens: list[list[float]] = []
    finish, payload = None, b""
    for encoded, part in FrameReader().feed(answer.content):
        head = decode_head(encoded)
        tokens += [[token.id, round(token.logprob, 5), round(token.margin, 5)] for token in head.tokens]
        finish, payload = head.finish or finish, payload + part
    return {"text": json.loads(payload)["choices"][0]["text"], "tokens": tokens, "finish": finish}
