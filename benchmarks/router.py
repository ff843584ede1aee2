"""What the router costs, beside vllm-router: added latency at one stream, requests a second at sixteen.

Latency is the time to the whole answer for JSON and to the first event for SSE: routers may join later events, which
saves the client reads and would make the rest of a stream look faster than without a router. Both stand in front of
the same plain OpenAI mock, on the same cores, in turns within one run; figures are medians over the rounds. `python
benchmarks/router.py --out benchmarks/results/latest.json`.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import uvloop

from benchmarks import rows

ROOT = Path(__file__).parent.parent
PEER = "vllm-router 0.1.17 round_robin"
KINDS = ("json", "sse")
LABELS = {"json": "JSON", "sse": "SSE first event"}
INTERVALS_S = (0.0, 0.002)
"""Between two events of a streamed answer: none to count requests, a fast engine's to time the first event."""
PROMPT = " ".join(["The wheel turns as long as water comes down the headrace."] * 20)
START_DEADLINE_S = 30.0
STREAMS = 16


# --- load ----------------------------------------------------------------------------------------------------


def request(kind: str, port: int) -> bytes:
    """Return one request as bytes."""
    fields = {"model": "mock", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 16}
    body = json.dumps(fields | {"stream": kind == "sse"}, separators=(",", ":")).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


class Stream(asyncio.Protocol):
    """Sends one request after the other on one connection and notes how long each took."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._buffer = b""
        self._end: int | None = None
        self._sent_s = 0.0
        self.latencies_s: list[float] = []
        self.stopping = False
        self.stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the run: no target may close a connection."""
        if not self.stopped.done():
            self.stopped.set_exception(ConnectionError(f"the target closed the connection: {exc}"))

    def data_received(self, data: bytes) -> None:
        """Look for the end of the answer."""
        self._buffer += data
        if self._end is None:
            self._read_head()
            if self._end == 0:
                self.latencies_s.append(time.perf_counter() - self._sent_s)
        if (self._end == 0 and self._buffer.endswith(b"0\r\n\r\n")) or (self._end and len(self._buffer) >= self._end):
            if self._end:
                self.latencies_s.append(time.perf_counter() - self._sent_s)
            if self.stopping:
                self.stopped.set_result(None)
                self._transport.close()
            else:
                self._send()

    def _read_head(self) -> None:
        """Set the size of the whole answer; 0 for a chunked one."""
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._buffer[:head_end].lower()
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(f"the target answered {self._buffer[:500]!r}")
        at = head.find(b"content-length:")
        self._end = 0 if at < 0 else head_end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])

    def _send(self) -> None:
        self._buffer = b""
        self._end = None
        self._sent_s = time.perf_counter()
        self._transport.write(self._message)


async def load(port: int, kind: str, streams: int, seconds: float) -> tuple[float, float]:
    """Load a target; return (p50 in seconds, requests a second)."""
    loop = asyncio.get_running_loop()
    message = request(kind, port)
    pairs = [await loop.create_connection(lambda: Stream(message), "127.0.0.1", port) for _ in range(streams)]
    protocols = [protocol for _, protocol in pairs]
    started_s = time.perf_counter()
    await asyncio.sleep(seconds)
    for protocol in protocols:
        protocol.stopping = True
    await asyncio.wait_for(asyncio.gather(*(protocol.stopped for protocol in protocols)), START_DEADLINE_S)
    elapsed_s = time.perf_counter() - started_s
    latencies_s = [latency for protocol in protocols for latency in protocol.latencies_s]
    return statistics.median(latencies_s), len(latencies_s) / elapsed_s


# --- targets -------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Target:
    """Something that answers on a port of this machine."""

    name: str
    port: int
    process: "subprocess.Popen[bytes]"

    def cpu_s(self) -> float:
        """Return the processor time used so far; Linux only, 0 elsewhere."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self) -> int:
        """Return the resident memory; Linux only, 0 elsewhere."""
        try:
            return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            return 0


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: Sequence[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command for the length of the block."""
    paths = [str(ROOT / part) for part in ("router", "crds")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def wait_for(what: str, done: Callable[[], Any]) -> Any:
    """Return what `done` returns once that is not empty."""
    end_s = time.perf_counter() + START_DEADLINE_S
    while time.perf_counter() < end_s:
        with contextlib.suppress(OSError, ValueError):
            if value := done():
                return value
        await asyncio.sleep(0.05)
    raise TimeoutError(f"{what} did not start within {START_DEADLINE_S} s")


def answers(port: int) -> bool:
    """Return whether the port serves the mock's model now."""
    message = request("json", port)
    with socket.create_connection(("127.0.0.1", port), 1) as probe:
        probe.sendall(message)
        return probe.recv(64).startswith(b"HTTP/1.1 200")


@contextlib.asynccontextmanager
async def targets(folder: Path, chunks: int, interval_s: float) -> AsyncIterator[list[Target]]:
    """Start the mock, our router and the peer (where it is installed)."""
    with contextlib.ExitStack() as stack:
        command = [sys.executable, str(ROOT / "benchmarks" / "mock_openai.py"), "--chunks", str(chunks)]
        command += ["--interval", str(interval_s)]
        mock = stack.enter_context(running(command, folder / "mock.log"))
        url = await wait_for("the mock", lambda: (folder / "mock.log").read_text().strip())
        found = [Target("direct", int(url.rpartition(":")[2]), mock)]
        state, ready = folder / "state.json", folder / "ready.json"
        worker = {"deployment": "mock", "role": "unified", "url": url, "pid": mock.pid}
        state.write_text(json.dumps({"router": None, "workers": [worker]}))
        command = [sys.executable, "-m", "headrace_router", "--port", "0", "--discovery", f"file:{state}"]
        ours = stack.enter_context(running([*command, "--ready-file", str(ready)], folder / "router.log"))
        port = await wait_for("the router", lambda: json.loads(ready.read_text())["url"].rpartition(":")[2])
        found.append(Target("headrace", int(port), ours))
        installed = shutil.which("vllm-router", path=str(Path(sys.executable).parent)) or shutil.which("vllm-router")
        if installed:
            peer_port = free_port()
            command = [installed, "--host", "127.0.0.1", "--port", str(peer_port), "--worker-urls", url]
            command += ["--policy", "round_robin", "--prometheus-port", str(free_port())]
            peer = stack.enter_context(running(command, folder / "peer.log"))
            found.append(Target("peer", peer_port, peer))
        for target in found:
            await wait_for(target.name, lambda target=target: answers(target.port))  # type: ignore[misc]  # default
        yield found


# --- figures -------------------------------------------------------------------------------------------------


Samples = dict[str, dict[str, list[float]]]
"""Values by target and figure."""


async def measure(rounds: int, seconds: float, chunks: int) -> dict[str, dict[str, float]]:
    """Return the figures of each target by name."""
    samples: Samples = {}
    for interval_s in INTERVALS_S:
        with tempfile.TemporaryDirectory() as folder:
            async with targets(Path(folder), chunks, interval_s) as found:
                for turn in range(rounds + 1):
                    kept: Samples = {} if turn == 0 else samples  # the first round warms up
                    # Each round starts with another target, so that none always follows the same neighbour.
                    for target in found[turn % len(found) :] + found[: turn % len(found)]:
                        figures = kept.setdefault(target.name, {})
                        await (
                            _time_events(target, seconds, figures) if interval_s else _count(target, seconds, figures)
                        )
    medians = {name: {key: statistics.median(value) for key, value in kept.items()} for name, kept in samples.items()}
    for name, figures in samples.items():
        for kind in KINDS:
            pairs = zip(figures[f"p50_{kind}"], samples["direct"][f"p50_{kind}"], strict=True)
            medians[name][f"added_{kind}"] = statistics.median(own - direct for own, direct in pairs)
    return medians


async def _count(target: Target, seconds: float, figures: dict[str, list[float]]) -> None:
    """Measure requests per second, processor time and memory, and the latency of plain answers."""
    alone_s, _ = await load(target.port, "json", 1, seconds)
    figures.setdefault("p50_json", []).append(alone_s * 1e6)
    for kind in KINDS:
        before_s = target.cpu_s()
        _, per_s = await load(target.port, kind, STREAMS, seconds)
        figures.setdefault(f"rps_{kind}", []).append(per_s)
        figures.setdefault(f"cpu_{kind}", []).append((target.cpu_s() - before_s) / (per_s * seconds) * 1e6)
    figures.setdefault("rss", []).append(target.rss_bytes() / 1e6)


async def _time_events(target: Target, seconds: float, figures: dict[str, list[float]]) -> None:
    """Measure the latency to the first event of a paced stream."""
    alone_s, _ = await load(target.port, "sse", 1, seconds)
    figures.setdefault("p50_sse", []).append(alone_s * 1e6)


def table(figures: dict[str, dict[str, float]]) -> list[rows.Row]:
    """Return one row per figure; without the peer its values are None."""
    made = []
    for kind in KINDS:
        for key, name, unit, target in (
            (f"added_{kind}", f"router added latency p50, 1 stream, {LABELS[kind]}", "us", ("<=", 1.0)),
            (f"rps_{kind}", f"router requests per second, {STREAMS} streams, {kind.upper()}", "1/s", (">=", 1.0)),
        ):
            peer_value = figures["peer"][key] if "peer" in figures else None
            made.append(rows.Row(name, figures["headrace"][key], unit, PEER, peer_value, target))
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and store where asked; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="list of rows to add to (created when missing)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count; one more warms up")
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds for each cell of a round")
    parser.add_argument("--chunks", type=int, default=16, help="events of a streamed answer")
    given = parser.parse_args(arguments)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(measure(given.rounds, given.seconds, given.chunks))
    for name, values in figures.items():
        print(f"{name:>9}: " + "  ".join(f"{key} {value:.0f}" for key, value in sorted(values.items())))
    return rows.finish(table(figures), given.out, "router")


if __name__ == "__main__":
    sys.exit(main())
