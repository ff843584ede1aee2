"""The operator's long poll against a real router: who waits is told at once, and answered once there is a worker."""

import asyncio
import time
from pathlib import Path

from tests.router.rig import chat, post, rig, run, until

from headrace_operator.kubernetes.scaling.visits import Visits
from headrace_operator.kubernetes.scaling.waiting import Waiting


def test_the_operator_hears_of_the_first_request_at_once_and_of_its_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            await it.publish()
            url = it.process.url
            woken = asyncio.Event()
            polls = Waiting(Visits(), woken.set)
            now = asyncio.get_running_loop().time
            try:
                polls.follow([url])
                await until(lambda: polls.held([url], "chat", now()) == 0, "the router says that nobody waits")
                client = await it.connect()
                began = time.monotonic()
                await client.send(post(chat("first")))
                await woken.wait()
                assert time.monotonic() - began < 1
                assert polls.held([url], "chat", now()) == 1
                await it.publish(worker)
                assert (await client.reply()).status == 200
                await until(lambda: polls.held([url], "chat", now()) == 0, "the router says that nobody waits any more")
            finally:
                await polls.close()

    run(main())
