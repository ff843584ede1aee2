"""Asks models all prompts through our own workers, by frames; what was answered once is kept from run to run."""

import asyncio
import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks import fleet
from headrace_api import names
from headrace_api.frames import FrameReader, decode_head
from headrace_worker.fetch import cache_root

SETTINGS: dict[str, Any] = {"temperature": 0, "seed": 1, "max_tokens": 32, "stop": ["\n"]}
"""Greedy, and over at the end of the line."""
AT_ONCE = 8
"""Prompts of each model."""
_DEADLINE_S = 1200.0

Answer = dict[str, Any]
"""`text`, `tokens` and `finish` as `headrace cascade` reads them, and the worker's own account of `seconds` it took."""


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


def answers(
    models: Mapping[str, str], prompts: Sequence[str], progress: Callable[[int, int], None]
) -> dict[str, list[Answer]]:
    """Return each model's answers to the prompts, in their order; `progress` is told (done, of) while some are missing.

    All models answer at the same time, so that what else the machine does adds to the seconds of each alike.

    Args:
        models: URI by name.
        prompts: to ask each of.
        progress: told (answered, to answer), over all models.
    """
    kept = {name: Kept(model) for name, model in models.items()}
    missing = {name: [prompt for prompt in prompts if one.get(prompt) is None] for name, one in kept.items()}
    asked = [name for name in models if missing[name]]
    threads = max(1, (os.cpu_count() or 1) // max(1, len(asked)))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        urls = {
            name: stack.enter_context(fleet.worker(Path(folder), name, model=models[name], threads=threads)).url
            for name in asked
        }
        asyncio.run(_ask_all(urls, missing, kept, progress))
    return {name: [answer for prompt in prompts if (answer := one.get(prompt))] for name, one in kept.items()}


async def _ask_all(
    urls: Mapping[str, str],
    missing: Mapping[str, Sequence[str]],
    kept: Mapping[str, Kept],
    progress: Callable[[int, int], None],
) -> None:
    done, total = 0, sum(len(missing[name]) for name in urls)

    def one_more() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    async with asyncio.TaskGroup() as all_:
        for name, url in urls.items():
            all_.create_task(_ask(url, missing[name], kept[name], one_more))


async def _ask(url: str, prompts: Sequence[str], kept: Kept, one_more: Callable[[], None]) -> None:
    free = asyncio.Semaphore(AT_ONCE)

    async def ask(prompt: str) -> None:
        async with free:
            kept.add(prompt, await _answer(client, prompt))
        one_more()

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
    finish, payload, seconds = None, b"", 0.0
    for encoded, part in FrameReader().feed(answer.content):
        head = decode_head(encoded)
        tokens += [[token.id, round(token.logprob, 5), round(token.margin, 5)] for token in head.tokens]
        finish, payload = head.finish or finish, payload + part
        seconds += head.prefill_s + head.decode_s
    text = json.loads(payload)["choices"][0]["text"]
    return {"text": text, "tokens": tokens, "finish": finish, "seconds": round(seconds, 6)}
