"""Embedding requests go through like others, untouched."""

from pathlib import Path

from tests.router.rig import post, rig, run

BODY = b'{"model": "chat", "input": ["one", "two"], "encoding_format": "base64"}'
ANSWER = b'{"object":"list","data":[]}'


def test_an_embedding_request_reaches_a_worker_as_it_is_and_so_does_its_answer(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)
            worker.plain = head + ANSWER
            answer = await it.ask(post(BODY, "/v1/embeddings"))
            assert answer.status == 200
            assert answer.body == ANSWER
            assert worker.seen[0].body == BODY, "no seed is added: nothing is drawn"

    run(main())


def test_a_request_without_input_or_for_an_unknown_model_is_refused_here(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            assert (await it.ask(post(b'{"model": "chat"}', "/v1/embeddings"))).status == 400
            assert (await it.ask(post(b'{"model": "x", "input": "a"}', "/v1/embeddings"))).status == 404
            assert not worker.seen

    run(main())
