"""What Prometheus answers to the queries of ScaledObjects, by Prometheus' own tool."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.operator.objects.test_scaledobject import built

Series = list[tuple[str, int]]

BLOCKS = "headrace_kv_blocks"


def queries() -> dict[tuple[str, str], str]:
    """Return the queries by role and signal."""
    scaling = {"trigger": "prometheus", "prometheus": {"address": "http://p:9090"}}
    return {
        (role, trigger["name"]): trigger["metadata"]["query"]
        for role, one in built(scaling=scaling).items()
        for trigger in one["spec"]["triggers"]
    }


def worker(role: str, pod: str, **values: int) -> Series:
    """Return series as a worker has them once the chart's PodMonitor has labelled them."""
    own = f'namespace="serving",serving_headrace_dev_deployment="chat",serving_headrace_dev_role="{role}",pod="{pod}"'
    states = {"active": values.pop("active", 0), "granted": 0, "cached": 50}
    blocks = [(f'{BLOCKS}{{{own},state="{state}"}}', value) for state, value in states.items()]
    named = [(f'headrace_{name}{{{own},worker="{pod}"}}', value) for name, value in values.items()]
    return [*named, *blocks, (f"{BLOCKS}_capacity{{{own}}}", 100)]


def router(pod: str, held: int, **workers: int) -> Series:
    """Return series of a router that knows these workers."""
    own = f'namespace="serving",model="chat",pod="{pod}"'
    known = [(f'headrace_router_workers{{{own},role="{role}"}}', count) for role, count in workers.items()]
    return [(f"headrace_router_held_requests{{{own}}}", held), *known]


WORKERS = [
    *worker("decode", "d0", requests_running=10, requests_waiting=4, requests_remote=3, active=25),
    *worker("decode", "d1", requests_running=6, requests_waiting=2, requests_remote=0, active=50),
    *worker("prefill", "p0", requests_running=7, requests_waiting=5, prompt_tokens_waiting=900),
]
LOADS = {
    ("decode", "requestsWaiting"): 3,
    ("decode", "requestsRunning"): 16,
    ("decode", "kvUsed"): 0.75,
    ("prefill", "requestsWaiting"): 5,
    ("prefill", "promptTokensWaiting"): 900,
    ("prefill", "workersBusy"): 1,
}
ASLEEP = {place: 3 if place[1] == "requestsWaiting" else 0 for place in LOADS}


@pytest.mark.parametrize(
    ("series", "answers"),
    [
        ([*WORKERS, *router("r0", 0, decode=2, prefill=1)], LOADS),
        ([*router("r0", 2), *router("r1", 1)], ASLEEP),
        (router("r0", 0, decode=2, prefill=1), {}),
        ([("up", 1)], {}),
    ],
    ids=["loads are summed", "what waits for sleepers", "workers out of sight are no answer", "nothing is no answer"],
)
def test_prometheus_answers(series: Series, answers: dict[tuple[str, str], float], tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: it comes with Prometheus")
    expected = [
        {
            "expr": query,
            "eval_time": "2m",
            "exp_samples": [{"labels": "{}", "value": answers[place]}] if place in answers else [],
        }
        for place, query in queries().items()
    ]
    inputs = [{"series": name, "values": f"{value}+0x20"} for name, value in series]
    test: dict[str, Any] = {"interval": "15s", "input_series": inputs, "promql_expr_test": expected}
    file = tmp_path / "queries.yaml"
    file.write_text(json.dumps({"rule_files": [], "evaluation_interval": "15s", "tests": [test]}))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
