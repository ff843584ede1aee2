import asyncio
from collections.abc import Awaitable, Callable

import httpx
import msgspec
import pytest

from headrace_api.handoff import HandoffAddress
from headrace_worker.messages import PrefillPeer
from headrace_worker.server.peers import FRESH_S, MAX_PEERS, RETRY_S, Peers


class Network:
    """Prefill workers by host, each with its incarnation; hosts that are absent refuse the connection."""

    def __init__(self) -> None:
        self.incarnations: dict[str, str] = {}
        self.asked: list[str] = []
        self.now_s = 100.0

    async def answer(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        self.asked.append(host)
        await asyncio.sleep(0)
        if host not in self.incarnations:
            raise httpx.ConnectError("refused")
        address = HandoffAddress(host, "prefill", self.incarnations[host], f"tcp://{host}", "h")
        return httpx.Response(200, content=msgspec.json.encode(address))

    def run(self, use: Callable[[Peers], Awaitable[None]]) -> None:
        async def main() -> None:
            async with httpx.AsyncClient(transport=httpx.MockTransport(self.answer)) as client:
                peers = Peers(client, clock=lambda: self.now_s)
                await use(peers)
                await peers.close()

        asyncio.run(main())


@pytest.fixture
def network() -> Network:
    return Network()


def test_peers_keep_their_rank_and_the_unreachable_are_left_out(network: Network) -> None:
    network.incarnations = {"a": "1", "b": "1"}

    async def use(peers: Peers) -> None:
        found = await peers.resolve(["http://b", "http://gone", "http://a", "http://b"])
        assert found == (PrefillPeer("b", "tcp://b", "1"), PrefillPeer("a", "tcp://a", "1"))

    network.run(use)


def test_a_restarted_peer_is_found_behind_a_requests_back(network: Network) -> None:
    network.incarnations = {"a": "1"}

    async def use(peers: Peers) -> None:
        await peers.resolve(["http://a"])
        network.incarnations["a"] = "2"
        network.now_s += FRESH_S + 1
        assert [peer.incarnation for peer in await peers.resolve(["http://a"])] == ["1"], "no request waits for it"
        await asyncio.gather(*peers._asking.values())
        assert [peer.incarnation for peer in await peers.resolve(["http://a"])] == ["2"]

    network.run(use)


def test_a_silent_peer_is_not_asked_again_at_once(network: Network) -> None:
    async def use(peers: Peers) -> None:
        for _ in range(3):
            assert await peers.resolve(["http://gone"]) == ()
        assert network.asked == ["gone"]
        network.now_s += RETRY_S + 0.1
        await peers.resolve(["http://gone"])
        await asyncio.gather(*peers._asking.values())
        assert network.asked == ["gone", "gone"]

    network.run(use)


def test_a_peer_of_a_failed_request_is_asked_again(network: Network) -> None:
    network.incarnations = {"a": "1"}

    async def use(peers: Peers) -> None:
        await peers.resolve(["http://a"])
        network.incarnations["a"] = "2"
        peers.forget(["a"])
        assert [peer.incarnation for peer in await peers.resolve(["http://a"])] == ["2"]

    network.run(use)


def test_many_requests_at_once_ask_a_new_peer_once(network: Network) -> None:
    network.incarnations = {"a": "1"}

    async def use(peers: Peers) -> None:
        await asyncio.gather(*(peers.resolve(["http://a"]) for _ in range(5)))
        assert network.asked == ["a"]

    network.run(use)


def test_only_the_best_ranked_are_asked(network: Network) -> None:
    async def use(peers: Peers) -> None:
        await peers.resolve([f"http://host{number}" for number in range(MAX_PEERS + 5)])
        assert len(network.asked) == MAX_PEERS

    network.run(use)
