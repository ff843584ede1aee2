"""Time of GPUs that no request used is written down once, by whichever router asks."""

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.router.cost.shop import HOURLY, lines, shop
from tests.router.rig import run, until

from headrace_router.cost.price import Tariff
from headrace_router.cost.store import Store
from headrace_router.cost.unused import Told, line, portions, read_seconds

PAGE = """# HELP headrace_gpu_seconds_total Seconds of the engine's GPUs by what they did
# TYPE headrace_gpu_seconds_total counter
headrace_gpu_seconds_total{model="m",use="load",worker="w"} 2.5
headrace_gpu_seconds_total{model="m",use="prefill",worker="w"} 9.0
headrace_gpu_seconds_total{model="m",worker="w",use="idle"} 31.25
headrace_gpu_lost_seconds_total{model="m",worker="w"} 1e-05
headrace_requests_running{model="m"} 3.0
"""


def test_a_metrics_page_is_read() -> None:
    assert read_seconds(PAGE) == {"load": 2.5, "idle": 31.25, "lost": 1e-05}
    assert read_seconds("") == {}


@given(st.lists(st.floats(0, 30), max_size=20), st.sampled_from([1.0, 7.5, 60.0]))
def test_portions_are_told_once_and_add_up(steps: list[float], size_s: float) -> None:
    told: Told = {}
    total_s, found = 0.0, []
    for step in steps:
        total_s += step
        found += list(portions({"idle": total_s, "load": 3.0}, told, size_s))
    idle = [(number, seconds) for use, number, seconds in found if use == "idle"]
    assert [number for number, _ in idle] == list(range(len(idle)))
    assert 0 <= total_s - sum(seconds for _, seconds in idle) < size_s + 1e-6
    assert [seconds for use, _, seconds in found if use == "load"] == ([3.0] if steps else [])


def test_two_routers_that_tell_of_the_same_portion_write_one_line(store: Store) -> None:
    entry = line(
        ("idle", 4, 60.0),
        incarnation="i",
        model="chat",
        tier="small",
        tariff=Tariff(3_600_000_000),
        currency="USD",
        unix_s=5.0,
    )
    assert store.append([entry]) == [True]
    assert store.append([entry]) == [False]
    assert store.query("SELECT kind, lost_s, cost, billed FROM entries", ()) == [("idle", 60.0, 60_000_000, 0)]


def test_a_router_asks_its_workers_and_writes_their_unused_time(tmp_path: Path) -> None:
    async def main() -> None:
        async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(PAGE)}\r\n\r\n{PAGE}".encode())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(page, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with shop(tmp_path, HOURLY, unused_portion_s=0.2) as (it, _):
            entry = {"deployment": "chat", "role": "unified", "url": url, "pid": 7, "incarnation": "i7"}
            it.state.write_text(json.dumps({"workers": [entry]}))
            await until(lambda: len(lines(tmp_path)) >= 157, "load and 156 portions of 0.2 s")
            kinds = [one["kind"] for one in lines(tmp_path)]
            assert (kinds.count("idle"), kinds.count("load"), kinds.count("lost")) == (156, 1, 0)
            assert sum(one["lost_s"] for one in lines(tmp_path)) == pytest.approx(156 * 0.2 + 2.5)
            assert sum(one["cost"] for one in lines(tmp_path)) == 156 * 200_000 + 2_500_000
            assert {one["role"] for one in lines(tmp_path)} == {"unified"}
        server.close()

    run(main())
