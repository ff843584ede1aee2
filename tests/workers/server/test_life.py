"""How the two processes of a worker start and end."""

import json
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from headrace_api import names
from headrace_api.frames import FrameReader, decode_head

Start = Callable[..., Any]
Until = Callable[[Callable[[], object]], None]
SEED_DIES, SEED_STALLS, SEED_DIES_AT_ONCE = 9004, 9005, 9006
pytestmark = pytest.mark.processes


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "prompt": "hello", "seed": 1, "stream": True, **fields}


def post(front: Any, begun: threading.Event, **fields: Any) -> bytes:
    """Stream one answer; tell when its first byte has come."""
    data = b""
    headers = fields.pop("headers", {})
    with httpx.stream(
        "POST", f"{front.url}/v1/completions", json=body(**fields), headers=headers, timeout=30
    ) as answer:
        try:
            for part in answer.iter_raw():
                data += part
                begun.set()
        except httpx.RemoteProtocolError:
            data += b"CUT"
    return data


def test_a_worker_that_loads_is_healthy_and_says_how_far_it_is(start: Start, until: Until) -> None:
    front = start(wait=False, device="slow")
    until(lambda: httpx.get(f"{front.url}/ready").json()["done"] == 50)
    answer = httpx.get(f"{front.url}/ready")
    assert (answer.status_code, answer.json()) == (503, {"phase": "load", "done": 50, "total": 100})
    assert httpx.get(f"{front.url}/health").status_code == 200
    assert httpx.get(f"{front.url}/handoff").status_code == 503
    refused = httpx.post(f"{front.url}/v1/completions", json=body())
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.headers[names.HEADER_REFUSED] == refused.json()["error"]["code"] == names.REFUSED_NOT_READY


def test_sigterm_lets_running_requests_finish_and_refuses_new_ones(start: Start, until: Until) -> None:
    front = start(max_model_len=4096)
    begun = threading.Event()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(post, front, begun, ignore_eos=True, max_tokens=1500)
        assert begun.wait(20)
        front.process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{front.url}/ready").status_code == 503)
        refused = httpx.post(f"{front.url}/v1/completions", json=body())
        assert refused.status_code == 503
        assert refused.headers[names.HEADER_REFUSED] == names.REFUSED_DRAINING
        assert running.result(30).endswith(b"data: [DONE]\n\n")
    assert front.process.wait(20) == 0


def test_the_drain_route_refuses_new_requests_and_keeps_the_worker(start: Start) -> None:
    front = start()
    assert httpx.post(f"{front.url}/drain").status_code == 202
    assert httpx.post(f"{front.url}/v1/completions", json=body()).status_code == 503
    assert httpx.get(f"{front.url}/ready").json()["phase"] == "drain"
    assert httpx.get(f"{front.url}/health").status_code == 200


def test_a_drain_ends_at_its_deadline(start: Start) -> None:
    front = start(drain_s=0.3)
    begun = threading.Event()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(post, front, begun, seed=SEED_STALLS)
        assert begun.wait(20)
        front.process.terminate()
        assert front.process.wait(20) == 0
        assert b"[DONE]" not in running.result(10)


def test_sigterm_while_the_model_loads_ends_the_worker_soon(start: Start, until: Until) -> None:
    front = start(wait=False, device="slow")
    until(lambda: httpx.get(f"{front.url}/ready").json()["done"] == 50)
    front.process.terminate()
    assert front.process.wait(5) == 0


def test_a_second_sigterm_ends_at_once(start: Start, until: Until) -> None:
    front = start()
    core = front.core()
    begun = threading.Event()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(post, front, begun, seed=SEED_STALLS)
        assert begun.wait(20)
        front.process.terminate()
        until(lambda: "draining" in front.logged())
        front.process.terminate()
        assert front.process.wait(10) == 128 + signal.SIGTERM
        running.result(10)
    assert not core.is_running()


def test_a_core_that_dies_cuts_frames_without_a_final_one_and_ends_the_worker(start: Start) -> None:
    front = start()
    data = post(front, threading.Event(), seed=SEED_DIES, headers={names.HEADER_FRAMES: "1"})
    assert data.endswith(b"CUT")
    heads = [decode_head(head) for head, _ in FrameReader().feed(data.removesuffix(b"CUT"))]
    assert [head.final for head in heads] == [False] * 3
    assert front.process.wait(10) == 1
    assert "exit code 7" in front.logged()
    assert "Traceback" not in front.logged()


@pytest.mark.parametrize("stream", [True, False])
def test_a_core_that_dies_before_the_first_frame_cuts_an_answer_without_any(start: Start, *, stream: bool) -> None:
    front = start()
    headers = {names.HEADER_FRAMES: "1"}
    assert post(front, threading.Event(), seed=SEED_DIES_AT_ONCE, stream=stream, headers=headers) == b"CUT"
    assert front.process.wait(10) == 1


def test_a_core_that_dies_ends_a_plain_stream_with_an_error_event(start: Start) -> None:
    front = start()
    data = post(front, threading.Event(), seed=SEED_DIES)
    event = json.loads(data.removesuffix(b"CUT").strip().split(b"\n\n")[-1].removeprefix(b"data: "))
    assert event["error"]["type"] == "server_error"
    assert b"[DONE]" not in data


def test_a_core_that_dies_before_the_first_byte_is_a_503(start: Start) -> None:
    front = start()
    answer = httpx.post(f"{front.url}/v1/completions", json=body(seed=SEED_DIES, stream=False), timeout=20)
    assert answer.status_code == 503
    assert answer.headers[names.HEADER_REFUSED] == names.REFUSED_DRAINING
    assert front.process.wait(10) == 1


@pytest.mark.parametrize(("device", "status"), [("broken", 1), ("hopeless", 2)])
def test_a_core_that_cannot_load_gives_its_reason_and_says_whether_to_try_again(
    start: Start, device: str, status: int
) -> None:
    front = start(wait=False, device=device)
    assert front.process.wait(20) == status
    assert "the worker ends: The model needs 9.00 GiB but only 1.00 GiB are free." in front.logged()


def test_a_model_that_is_not_there_ends_the_worker_with_a_sentence(start: Start, tmp_path: Path) -> None:
    front = start(wait=False, model=f"file://{tmp_path}/nothing")
    assert front.process.wait(20) == 2
    assert "nothing does not exist" in front.logged()
    assert "Traceback" not in front.logged()


def test_a_tokenizer_that_cannot_be_read_ends_the_worker_for_good(start: Start, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / "model" / name).write_text("{")
    (tmp_path / "model" / "model.safetensors").touch()
    front = start(wait=False, model=f"file://{tmp_path}/model")
    assert front.process.wait(20) == 2
    assert "the tokenizer could not be loaded" in front.logged()


def test_the_core_ends_when_the_front_is_killed_and_no_file_stays(start: Start, until: Until) -> None:
    front = start()
    core = front.core()
    os.kill(front.process.pid, signal.SIGKILL)
    front.process.wait(10)
    until(lambda: not core.is_running() or core.status() == psutil.STATUS_ZOMBIE)
    assert list(front.log.parent.glob("headrace-*")) == []
