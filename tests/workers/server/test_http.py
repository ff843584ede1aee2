import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec
import pytest

from headrace_api import names
from headrace_api.frames import FrameHead, FrameReader, Resume, decode_head
from headrace_api.handoff import HandoffAddress, authorization

Until = Callable[[Callable[[], object]], None]
SEED_INVALID, SEED_OVERLOADED, SEED_INTERNAL, SEED_STALLS = 9001, 9002, 9003, 9005
FRAMES = {names.HEADER_FRAMES: "1", names.HEADER_REQUEST_ID: "req-7", names.HEADER_CREATED: "1700000000"}


@pytest.fixture
def client(front: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=front.url, timeout=20, trust_env=False) as client:
        yield client


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "prompt": "hello", "seed": 1, **fields}


def frames(data: bytes) -> list[tuple[FrameHead, bytes, bytes]]:
    reader = FrameReader()
    read = [(decode_head(head), head, payload) for head, payload in reader.feed(data)]
    assert reader.pending == 0
    return read


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/v1/completions", b"{", 400),
        ("POST", "/v1/chat/completions", b"[]", 400),
        ("POST", "/v1/completions", b'{"model":"tiny","prompt":"x","promt":1}', 400),
        ("POST", "/v1/completions", b'{"model":"x","prompt":"x"}', 404),
        ("GET", "/v1/completions", None, 405),
        ("POST", "/v1/embeddings", b"{}", 400),
        ("POST", "/v1/images", b"{}", 404),
        ("POST", "/handoff/dead", b"{}", 400),
        ("POST", "/handoff/dead", b"\xff", 400),
    ],
)
def test_every_refusal_has_openais_shape(
    client: httpx.Client, method: str, path: str, content: bytes | None, status: int
) -> None:
    answer = client.request(method, path, content=content)
    assert answer.status_code == status
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("header", [{names.HEADER_CREATED: "yesterday"}, {names.HEADER_DISAGGREGATE: "sometimes"}])
def test_a_header_of_unknown_value_is_refused(client: httpx.Client, header: dict[str, str]) -> None:
    assert client.post("/v1/completions", json=body(), headers=header).status_code == 400


@pytest.mark.parametrize(("seed", "status"), [(SEED_INVALID, 400), (SEED_OVERLOADED, 503), (SEED_INTERNAL, 500)])
def test_a_request_that_the_core_gives_up_has_the_status_of_its_kind(
    client: httpx.Client, seed: int, status: int
) -> None:
    for stream in (False, True):
        answer = client.post("/v1/completions", json=body(seed=seed, stream=stream))
        assert answer.status_code == status
        assert "a failure of kind" in answer.json()["error"]["message"]
        assert answer.headers.get(names.HEADER_REFUSED) == (names.REFUSED_OVERLOADED if status == 503 else None)


def test_answers_name_the_request_and_its_workers(client: httpx.Client) -> None:
    headers = {names.HEADER_REQUEST_ID: "req-1", names.HEADER_CREATED: "1700000000"}
    answer = client.post("/v1/completions", json=body(), headers=headers)
    assert answer.headers[names.HEADER_REQUEST_ID] == "req-1"
    assert answer.headers[names.HEADER_PREFILL] == names.PREFILL_LOCAL
    assert answer.headers[names.HEADER_DECODE] == "tiny-decode-0"
    assert (answer.json()["id"], answer.json()["created"]) == ("cmpl-req-1", 1700000000)


def test_frames_carry_the_same_bytes_as_a_plain_answer(client: httpx.Client) -> None:
    for stream in (False, True):
        request = body(stream=stream, n=2, max_tokens=20, logprobs=1)
        plain = client.post("/v1/completions", json=request, headers={**FRAMES, names.HEADER_FRAMES: "0"})
        framed = client.post("/v1/completions", json=request, headers=FRAMES)
        assert framed.headers["content-type"] == names.MEDIA_FRAMES
        read = frames(framed.content)
        payloads = b"".join(payload for _, _, payload in read)
        assert sorted(payloads.split(b"\n\n")) == sorted(plain.content.split(b"\n\n"))
        assert [head.final for head, _, _ in read] == [False] * (len(read) - 1) + [True]
        assert read[0][0].prefill == names.PREFILL_LOCAL


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("forwarded", [0, 1, 7, 19])
def test_a_resumed_answer_goes_on_where_the_forwarded_frames_end(
    client: httpx.Client, *, stream: bool, forwarded: int
) -> None:
    request = body(stream=stream, max_tokens=20, stop=["zebra"])
    whole = frames(client.post("/v1/completions", json=request, headers=FRAMES).content)
    resume = Resume(json.dumps(request).encode(), tuple(raw for _, raw, _ in whole[:forwarded]))
    answer = client.post(
        "/v1/completions",
        content=msgspec.msgpack.encode(resume),
        headers={**FRAMES, "content-type": names.MEDIA_RESUME},
    )
    assert b"".join(payload for _, _, payload in frames(answer.content)) == b"".join(
        payload for _, _, payload in whole[forwarded:]
    )
    assert sum(len(head.tokens) for head, _, _ in frames(answer.content)) == 20 - forwarded


def test_a_resume_without_a_seed_or_that_is_none_is_refused(client: httpx.Client) -> None:
    whole = frames(client.post("/v1/completions", json=body(max_tokens=3), headers=FRAMES).content)
    seedless = Resume(json.dumps(body(seed=None)).encode(), (whole[0][1],))
    for content in (b"nonsense", msgspec.msgpack.encode(seedless), msgspec.msgpack.encode(Resume(b"{}", (b"\xff",)))):
        answer = client.post("/v1/completions", content=content, headers={"content-type": names.MEDIA_RESUME})
        assert answer.status_code == 400


def test_a_client_that_leaves_frees_its_request_at_once(client: httpx.Client, front: Any, until: Until) -> None:
    cancels = front.metric("headrace_preemptions_total")
    with client.stream("POST", "/v1/completions", json=body(seed=SEED_STALLS, stream=True)) as answer:
        next(answer.iter_bytes())
    until(lambda: front.metric("headrace_preemptions_total") == cancels + 1)
    until(lambda: front.metric("headrace_requests_total", outcome="cancelled") >= 1)


def test_a_client_that_leaves_before_the_first_byte_frees_its_request(
    client: httpx.Client, front: Any, until: Until
) -> None:
    cancels = front.metric("headrace_preemptions_total")
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/completions", json=body(seed=SEED_STALLS), timeout=0.2)
    until(lambda: front.metric("headrace_preemptions_total") == cancels + 1)


def test_the_core_is_told_when_a_stop_string_ends_a_choice(client: httpx.Client, front: Any, until: Until) -> None:
    finishes = front.metric("headrace_handoffs_total", outcome="refused")
    client.post("/v1/completions", json=body(stop="quick", n=2))
    until(lambda: front.metric("headrace_handoffs_total", outcome="refused") == finishes + 2)


@pytest.fixture
def prefill_worker() -> Iterator[tuple[str, list[str]]]:
    """A prefill worker's HTTP side: its URL, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            data = msgspec.json.encode(HandoffAddress("tiny-prefill-0", "prefill", "i1", "tcp://127.0.0.1:2", "h"))
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join(5)


def test_prefill_workers_are_asked_once_for_their_address(
    client: httpx.Client, front: Any, prefill_worker: tuple[str, list[str]]
) -> None:
    url, asked = prefill_worker
    for _ in range(3):
        answer = client.post("/v1/completions", json=body(), headers={names.HEADER_PREFILL_WORKERS: url})
        assert answer.headers[names.HEADER_PREFILL] == "tiny-prefill-0", front.logged()
    assert asked == ["/handoff"]


def test_an_unreachable_prefill_worker_is_left_out(client: httpx.Client) -> None:
    headers = {names.HEADER_PREFILL_WORKERS: "http://127.0.0.1:9, nonsense://"}
    answer = client.post("/v1/completions", json=body(), headers=headers)
    assert answer.headers[names.HEADER_PREFILL] == names.PREFILL_LOCAL


def test_a_request_that_forbids_disaggregation_asks_no_prefill_worker(
    client: httpx.Client, prefill_worker: tuple[str, list[str]]
) -> None:
    url, asked = prefill_worker
    headers = {names.HEADER_PREFILL_WORKERS: url, names.HEADER_DISAGGREGATE: "never"}
    assert client.post("/v1/completions", json=body(), headers=headers).status_code == 200
    assert asked == []


def test_handoff_names_the_engine_and_the_dead_are_passed_on(client: httpx.Client, front: Any, until: Until) -> None:
    address = msgspec.json.decode(client.get("/handoff").content, type=HandoffAddress)
    assert (address.worker, address.role, address.address) == ("tiny-decode-0", "decode", "tcp://127.0.0.1:1")
    told = front.metric("headrace_handoffs_total", outcome="aborted")
    assert client.post("/handoff/dead", json={"incarnation": "gone"}).status_code == 200
    until(lambda: front.metric("headrace_handoffs_total", outcome="aborted") == told + 1)
    assert client.post("/handoff/dead", json={"incarnation": address.incarnation}).status_code == 400


def test_the_end_of_a_pod_is_passed_on_unless_this_worker_runs_in_it(start: Callable[..., Any], until: Until) -> None:
    front = start(incarnation_prefix="uid-1")
    assert httpx.post(f"{front.url}/handoff/dead", json={"pod": "uid-2"}).json() == {"pod": "uid-2"}
    until(lambda: front.metric("headrace_handoffs_total", outcome="aborted") == 1)
    assert httpx.post(f"{front.url}/handoff/dead", json={"pod": "uid-1"}).status_code == 400
    assert httpx.post(f"{front.url}/handoff/dead", json={"pod": "a", "incarnation": "b"}).status_code == 400


def test_the_dead_and_a_drain_are_taken_only_from_who_knows_the_secret(start: Callable[..., Any]) -> None:
    front = start(secret="of the deployment")
    for shown in ({}, {"authorization": "Bearer wrong"}, {"authorization": "of the deployment"}):
        for path, content in (("/handoff/dead", {"incarnation": "gone"}), ("/drain", {})):
            answer = httpx.post(f"{front.url}{path}", json=content, headers=shown)
            assert answer.status_code == 401
            assert answer.json()["error"]["type"] == "authentication_error"
    assert httpx.get(f"{front.url}/ready").status_code == 200
    known = {"authorization": authorization("of the deployment")}
    assert httpx.post(f"{front.url}/handoff/dead", json={"incarnation": "gone"}, headers=known).status_code == 200
    assert httpx.post(f"{front.url}/drain", headers=known).status_code == 202


def test_metrics_have_the_shared_names_and_the_workers_labels(client: httpx.Client, front: Any) -> None:
    client.post("/v1/completions", json=body(max_tokens=4))
    labels = {"model": "tiny", "worker": "tiny-decode-0"}
    assert front.metric(names.KV_BLOCKS, **labels) == front.metric(names.KV_BLOCKS_CAPACITY, **labels) == 100
    for state in names.BLOCK_STATES:
        assert f'state="{state}"' in client.get("/metrics").text
    for direction in ("sent", "received"):
        assert f'{names.KV_TRANSFER_BYTES}_total{{direction="{direction}"' in client.get("/metrics").text
    assert front.metric(f"{names.REQUESTS}_total", outcome="length", **labels) >= 1
    assert front.metric(f"{names.TTFT_SECONDS}_count", **labels) >= 1
    assert front.metric(f"{names.TPOT_SECONDS}_count", **labels) >= 1
    assert front.metric(f"{names.STEP_SECONDS}_count", **labels) >= 1


def test_nothing_of_a_request_or_its_answer_is_logged(client: httpx.Client, front: Any) -> None:
    client.post("/v1/completions", json=body(prompt="my secret words"))
    client.post("/v1/completions", json=body(prompt="my secret words", seed=SEED_INTERNAL))
    assert "secret words" not in front.logged()
    assert "quick brown" not in front.logged()
