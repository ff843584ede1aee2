"""A request that is sent again under its Idempotency-Key is the same request."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.router.rig import Rig, chat, post, rig, run

from headrace_router.server.identity import random_identity, repeatable_identity

BODY = b'{"model":"chat"}'
BASE = (b"Bearer a", b"key", b"/v1/chat/completions", BODY)


async def _identities(it: Rig, *requests: bytes) -> list[tuple[str, int]]:
    """Send requests; return the id of each answer and the seed that the worker was given."""
    found = []
    for request in requests:
        reply = await it.ask(request)
        seen = it.workers[-1].seen[-1]
        assert seen.headers["x-request-id"] == reply.headers["x-request-id"]
        found.append((reply.headers["x-request-id"], seen.fields["seed"]))
    return found


def _keyed(key: str, *, user: str = "a", path: str = "/v1/chat/completions", **fields: Any) -> bytes:
    return post(chat(**fields), path, f"Idempotency-Key: {key}\r\nAuthorization: Bearer {user}\r\n")


def test_a_repeat_has_the_same_id_and_seed_whichever_router_it_meets(tmp_path: Path) -> None:
    async def main() -> list[tuple[str, int]]:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            found = await _identities(it, _keyed("k1"), _keyed("k1"))
            assert "idempotency-key" not in worker.seen[0].headers
            return found

    first, second = run(main()), run(main())
    assert len({*first, *second}) == 1


def test_another_key_body_or_user_is_another_request(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            await it.worker("d0")
            others = [
                *(_keyed("k1"), _keyed("k2"), _keyed("k1", user="b"), _keyed("k1", max_tokens=3)),
                *(post(chat()), post(chat())),
            ]
            found = await _identities(it, *others)
            assert len({name for name, _ in found}) == len({seed for _, seed in found}) == len(others)

    run(main())


def test_a_seed_of_the_client_is_kept_and_part_of_what_is_repeated(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            await it.worker("d0")
            (one, other) = await _identities(it, _keyed("k1", seed=7), _keyed("k1", seed=8))
            assert (one[1], other[1]) == (7, 8)
            assert one[0] != other[0]

    run(main())


def test_repeats_may_run_side_by_side(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            await it.worker("d0")
            replies = await asyncio.gather(*(it.ask(_keyed("k1")) for _ in range(8)))
            assert {reply.status for reply in replies} == {200}
            assert len({reply.headers["x-request-id"] for reply in replies}) == 1

    run(main())


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\xe9"])
def test_a_key_that_is_none_is_refused_with_a_sentence(tmp_path: Path, key: str) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            reply = await it.ask(_keyed(key))
            assert (reply.status, reply.json["error"]["code"]) == (400, "invalid_idempotency_key")
            assert worker.seen == []

    run(main())


def test_parts_cannot_be_shifted_between_each_other() -> None:
    shifted = (b"Bearer ", b"akey", b"/v1/chat/completions", BODY)
    assert repeatable_identity(*BASE) == repeatable_identity(*BASE)
    assert repeatable_identity(*shifted).request_id != repeatable_identity(*BASE).request_id
    assert 0 <= repeatable_identity(*BASE).seed < 2**63


def test_what_a_client_calls_its_request_is_never_what_it_is_counted_under() -> None:
    identity = random_identity(b"mine", 2**191 - 1)
    assert identity.request_id == b"mine"
    assert identity.entry_id == b"f" * 32
    assert identity.seed == 2**63 - 1
    assert random_identity(None, 5).request_id == random_identity(None, 5).entry_id == b"0" * 32
