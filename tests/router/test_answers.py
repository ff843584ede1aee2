"""What a client gets from workers that behave, and what the router says by itself."""

import json
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from tests.router.rig import Rig, chat, get, post, rig, run, stream_bytes

PLAIN = b'{"object":"chat.completion"}'


def test_a_whole_answer_comes_from_the_final_frame(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            reply = await it.ask(chat())
            assert reply.status == 200
            assert reply.headers["content-type"] == "application/json"
            assert int(reply.headers["content-length"]) == len(reply.body)
            assert reply.json == {"text": "w0 w1 w2 w3 w4 w5 w6 w7 "}
            assert worker.seen[0].path == "/v1/chat/completions"

    run(main())


def test_a_stream_is_the_payloads_of_the_frames_untouched(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            await it.worker("d0")
            reply = await it.ask(chat(stream=True))
            assert reply.status == 200
            assert reply.headers["content-type"].startswith("text/event-stream")
            assert reply.whole
            assert reply.body == stream_bytes(8)

    run(main())


def test_answers_name_the_request_and_who_prefilled_and_decoded(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            await it.worker("p0", "prefill")
            worker.prefill = "p0"
            for stream in (False, True):
                reply = await it.ask(post(chat(stream=stream), headers="X-Request-Id: abc-1\r\n"))
                names = [reply.headers[f"x-{name}"] for name in ("request-id", "headrace-prefill", "headrace-decode")]
                assert names == ["abc-1", "p0", "d0"]

    run(main())


def test_the_body_reaches_the_worker_as_it_is_with_a_seed_behind_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            body = b' {"model" : "chat", "messages":[{"role":"user","content":"\\u00e9"}], "unknown":{"a":[1,2]} } \n'
            await it.ask(post(body))
            sent = worker.seen[0].body
            assert sent.startswith(body.rstrip()[:-1] + b',"seed":')
            assert 0 <= json.loads(sent)["seed"] < 2**63
            await it.ask(post(body))
            assert worker.seen[1].fields["seed"] != worker.seen[0].fields["seed"]

    run(main())


def test_a_seed_of_the_client_is_kept_and_a_null_one_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            await it.ask(chat(seed=7))
            assert worker.seen[0].body == json.dumps(chat(seed=7)).encode()
            await it.ask(chat(seed=None))
            assert isinstance(worker.seen[1].fields["seed"], int)

    run(main())


def test_workers_get_our_headers_and_the_clients_but_nothing_of_its_hop(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            prefill = await it.worker("p0", "prefill")
            extra = "Authorization: Bearer x\r\nTraceparent: 00-a\r\nX-Headrace-Disaggregate: never\r\n"
            hop = "Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
            hop += "Accept-Encoding: gzip\r\n"
            await it.ask(post(chat(), headers=extra + hop + "X-Headrace-Prefill-Workers: http://evil\r\n"))
            headers = worker.seen[0].headers
            assert headers["authorization"] == "Bearer x"
            assert headers["traceparent"] == "00-a"
            assert headers["x-headrace-frames"] == "1"
            assert headers["x-headrace-created"].isdigit()
            assert headers["x-headrace-prefill-workers"] == prefill.url
            assert len(headers["x-request-id"]) == 32
            dropped = {"x-mine", "keep-alive", "te", "accept-encoding", "x-headrace-disaggregate", "connection"}
            assert not dropped & set(headers)

    run(main())


def test_plain_answers_pass_through_with_their_status_and_headers(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            head = b"HTTP/1.1 422 Odd\r\ncontent-type: application/json\r\nx-theirs: 1\r\nkeep-alive: 5\r\n"
            worker.plain = head + b"content-length: %d\r\n\r\n%b" % (len(PLAIN), PLAIN)
            reply = await it.ask(chat())
            assert (reply.status, reply.body) == (422, PLAIN)
            assert reply.headers["x-theirs"] == "1"
            assert "keep-alive" not in reply.headers
            assert reply.headers["x-headrace-decode"] == "d0"

    run(main())


def test_plain_streams_pass_through_byte_for_byte(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            worker.plain = head + b"9\r\ndata: 1\n\n\r\n3\r\ndat\r\n6\r\na: 2\n\n\r\n0\r\n\r\n"
            reply = await it.ask(chat(stream=True))
            assert reply.whole
            assert reply.body == b"data: 1\n\ndata: 2\n\n"

    run(main())


def test_a_plain_answer_that_ends_with_its_connection_is_complete(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            worker.plain = b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + PLAIN
            worker.plain_then_die = True
            reply = await it.ask(chat())
            assert (reply.status, reply.body, reply.whole) == (200, PLAIN, True)

    run(main())


def test_interim_answers_of_a_worker_are_no_answers(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            worker.plain = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (28, PLAIN)
            reply = await it.ask(chat())
            assert (reply.status, reply.body) == (200, PLAIN)

    run(main())


def test_one_connection_to_the_worker_serves_many_requests(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            for _ in range(5):
                assert (await it.ask(chat())).status == 200
            assert worker.connections == 1

    run(main())


def test_completions_go_the_same_way(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            reply = await it.ask(post({"model": "chat", "prompt": "hi"}, "/v1/completions"))
            assert reply.status == 200
            assert worker.seen[0].path == "/v1/completions"

    run(main())


async def _error(it: Rig, data: bytes) -> tuple[int, str | None, str]:
    reply = await it.ask(data)
    error = reply.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "x-request-id" in reply.headers
    return reply.status, error["param"], error["message"]


def test_bad_requests_get_an_error_that_names_the_field(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            bad: list[tuple[bytes, int, str | None, str]] = [
                (post(b"{"), 400, None, "JSON"),
                (post(b""), 400, None, "JSON"),
                (post(b"\xff\xfe"), 400, None, "JSON"),
                (post(b'{"model":"chat","messages":[]} x'), 400, None, "JSON"),
                (post(b'{"model":"chat","messages":' + b"[" * 100_000), 400, "messages", ""),
                (post(b'{"model":"chat","messages":[],"x":' + b"[" * 100_000), 400, None, ""),
                (post(b"[]"), 400, None, "object"),
                (post({"model": 3, "messages": []}), 400, "model", "str"),
                (post(chat(stream="yes")), 400, "stream", "bool"),
                (post({"model": "chat"}), 400, "messages", "missing"),
                (post({"model": "chat", "messages": "hi"}), 400, "messages", "array"),
                (post({"model": "chat"}, "/v1/completions"), 400, "prompt", "missing"),
                (post({"messages": []}), 404, "model", "chat"),
                (post({"model": "other", "messages": []}), 404, "model", "serves: chat"),
            ]
            for data, status, param, text in bad:
                found = await _error(it, data)
                assert found[:2] == (status, param), (data[:80], found)
                assert text in found[2]
            assert worker.seen == []

    run(main())


def test_errors_of_the_worker_pass_through(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            for status in (400, 500, 503):
                worker.refuse = (status, b'{"error":{"message":"no","type":"x","param":"top_p","code":null}}')
                reply = await it.ask(chat())
                assert (reply.status, reply.body) == worker.refuse

    run(main())


def test_unknown_paths_and_methods_get_404_and_405(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            await it.worker("d0")
            assert (await it.ask(get("/v2"))).status == 404
            assert (await it.ask(get("/v1/models/none"))).status == 404
            for method, path, allow in (
                ("GET", "/v1/chat/completions", "POST"),
                ("OPTIONS", "/v1/completions", "POST"),
                ("DELETE", "/v1/models", "GET, HEAD"),
                ("PUT", "/health", "GET, HEAD"),
            ):
                reply = await it.ask(get(path, method))
                assert (reply.status, reply.headers["allow"]) == (405, allow)
                assert reply.json["error"]["code"] == "method_not_allowed"
            assert (await it.ask(get("/v1/completions", "HEAD"))).status == 405

    run(main())


def test_models_are_the_deployments_whose_workers_are_listed(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            await it.worker("d0")
            listed = (await it.ask(get("/v1/models?x=1"))).json
            assert [model["id"] for model in listed["data"]] == ["chat"]
            one = (await it.ask(get("/v1/models/chat"))).json
            assert one == listed["data"][0]
            assert one["object"] == "model"

    run(main())


def test_head_answers_as_get_without_the_body(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            connection = await it.connect()
            await connection.send(get("/health", "HEAD") + get("/health"))
            bare, full = await connection.reply(bodyless=True), await connection.reply()
            assert bare.headers["content-length"] == full.headers["content-length"]
            assert full.json["status"] == "ok"

    run(main())


def test_without_any_model_the_answer_is_503_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            reply = await it.ask(chat())
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")

    run(main())


def test_metrics_count_requests_times_and_workers(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            await it.worker("d0")
            await it.worker("p0", "prefill")
            for _ in range(3):
                await it.ask(chat())
            await it.ask({"model": "made-up", "messages": []})
            assert await it.metric('headrace_router_requests_total{model="chat",code="200"}') == 3
            assert await it.metric('headrace_router_requests_total{model="unknown",code="404"}') == 1
            assert await it.metric('headrace_router_inflight{model="chat"}') == 0
            assert await it.metric('headrace_router_workers{model="chat",role="decode"}') == 1
            assert await it.metric('headrace_router_workers{model="chat",role="prefill"}') == 1
            assert await it.metric('headrace_router_time_to_first_token_seconds_count{model="chat"}') == 3
            assert await it.metric('headrace_router_request_seconds_bucket{model="chat",le="+Inf"}') == 3
            assert 0 < await it.metric('headrace_router_request_seconds_sum{model="chat"}') < 10

    run(main())


def test_metrics_are_text_that_prometheus_reads(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            await it.worker("d0")
            await it.ask(chat())
            text = (await it.ask(get("/metrics"))).body.decode()
            families = {family.name: family for family in text_string_to_metric_families(text)}
            assert families["headrace_router_requests"].type == "counter"
            assert families["headrace_router_time_to_first_token_seconds"].type == "histogram"

    run(main())
