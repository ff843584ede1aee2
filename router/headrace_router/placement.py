"""Placement: the choice for one request, and the accounts that later choices read.

The glue between the pure scores of `choose` and the members that discovery knows.
"""

from collections.abc import Container, Iterable, Sequence

import msgspec

from headrace_api.frames import Usage
from headrace_api.names import PREFILL_LOCAL
from headrace_router.choose.prefix import PrefixIndex
from headrace_router.choose.score import Candidate, Costs, best_decode, rank_prefill
from headrace_router.discovery.registry import Deployment, Member


class Placement(msgspec.Struct, eq=False):
    """One request on its way through a decode worker; from `Placer.place` until `Placer.end`."""

    decode: Member
    prefills: tuple[Member, ...]
    """Ranked, best first."""
    prompt_bytes: int
    decode_hit: int
    prefill_hits: tuple[int, ...]
    """Predicted bytes of prefix hit, in the order of `prefills`."""
    computing: Member | None
    """Who is thought to be prefilling now; None once the first token is there."""
    computing_bytes: int


class Placer:
    """Places requests and keeps the loads and the prefix index true to what happened to them."""

    def __init__(self, costs: Costs, prefix_entries: int) -> None:
        self._costs = costs
        self._index = PrefixIndex(prefix_entries)

    def place(
        self,
        deployment: Deployment,
        hashes: Sequence[int],
        prompt_bytes: int,
        avoid: Container[Member] | None,
        now_s: float,
    ) -> Placement | None:
        """Choose workers for a prompt and count it in; None when no decode worker can be chosen now.

        Args:
            deployment: where to choose from.
            hashes: chain of the prompt's text.
            prompt_bytes: size of the prompt's text.
            avoid: decode workers that refused this very request, if any.
            now_s: the breakers' clock.
        """
        decoders = [
            member
            for member in deployment.decoders
            if member.breaker.open_until_s <= now_s and (avoid is None or member not in avoid)
        ]
        if not decoders:
            return None
        if not deployment.choosable:
            prefills = () if decoders[0].load.unified else deployment.partners[decoders[0].worker.pairing]
            return self._begin(decoders[0], prefills, prompt_bytes, {})
        deployment.turn += 1
        turn = deployment.turn
        held = self._index.hits(hashes) if hashes else {}
        ranked = {
            pairing: self._rank(members, held, prompt_bytes, turn=turn, now_s=now_s)
            for pairing, members in deployment.partners.items()
        }
        chosen = 0
        if len(decoders) > 1:
            prefill_ms = [ranked[member.worker.pairing][0] for member in decoders]
            candidates = _candidates(decoders, held)
            chosen = best_decode(candidates, prompt_bytes, self._costs, turn=turn, prefill_ms=prefill_ms)
        decode = decoders[chosen]
        prefills = () if decode.load.unified else ranked[decode.worker.pairing][1]
        return self._begin(decode, prefills, prompt_bytes, held)

    def _rank(
        self, members: tuple[Member, ...], held: dict[int, int], prompt_bytes: int, *, turn: int, now_s: float
    ) -> tuple[float | None, tuple[Member, ...]]:
        """Return what the best prefill worker of one pairing costs (None without any), and all of them, best first."""
        # All of them fell silent once: naming them costs one failed try at most, leaving them out is for ever.
        usable = [member for member in members if member.breaker.closed(now_s)] or members
        ranked = rank_prefill(_candidates(usable, held), prompt_bytes, self._costs, turn)
        return ranked[0][0] if ranked else None, tuple([usable[index] for _, index in ranked])

    def _begin(
        self, decode: Member, prefills: tuple[Member, ...], prompt_bytes: int, held: dict[int, int]
    ) -> Placement:
        prefill_hits = tuple([held.get(member.number, 0) for member in prefills])
        decode_hit = held.get(decode.number, 0)
        computing = prefills[0] if prefills else decode
        computing_bytes = prompt_bytes - (prefill_hits[0] if prefills else decode_hit)
        placement = Placement(decode, prefills, prompt_bytes, decode_hit, prefill_hits, computing, computing_bytes)
        decode.load.requests += 1
        decode.load.held_bytes += prompt_bytes
        computing.load.waiting_bytes += computing_bytes
        if computing is not decode:
            computing.load.requests += 1
        return placement

    def prefilled(self, placement: Placement) -> None:
        """The first token is there: nobody prefills for this request any more."""
        computing = placement.computing
        if computing is not None:
            computing.load.waiting_bytes -= placement.computing_bytes
            if computing is not placement.decode:
                computing.load.requests -= 1
            placement.computing = None

    def end(self, placement: Placement) -> None:
        """The request has left the decode worker, whatever the reason."""
        if placement.computing is not None:
            self.prefilled(placement)
        load = placement.decode.load
        load.requests -= 1
        load.held_bytes -= placement.prompt_bytes

    def learn(
        self, placement: Placement, hashes: Sequence[int], prefill: str | None, usage: Usage | None, now_s: float
    ) -> None:
        """Enter what really served a finished request into the index and the accounts of trust.

        Args:
            placement: the request's.
            hashes: chain of the prompt's text.
            prefill: who prefilled, as the answer says; None where it does not.
            usage: counts of the answer; None where it had none.
            now_s: the breakers' clock.
        """
        if hashes:
            self._index.record(hashes, placement.decode.number)
        member, predicted = _prefilled_by(placement, prefill)
        if member is None:
            return
        if member is not placement.decode:
            self._index.record(hashes, member.number)
            member.breaker.succeeded()
            for passed_over in placement.prefills[: placement.prefills.index(member)]:
                passed_over.breaker.failed(now_s)
        if usage is not None and usage.prompt_tokens > 0 and placement.prompt_bytes > 0:
            member.load.judge(predicted / placement.prompt_bytes, usage.cached_tokens / usage.prompt_tokens)

    def forget(self, members: Iterable[Member]) -> None:
        """Drop workers that are gone from the index."""
        self._index.forget(member.number for member in members)


def _candidates(members: Sequence[Member], held: dict[int, int]) -> list[Candidate]:
    """Pair each worker with its predicted hit, weighed by how far its predictions come true."""
    return [(member.load, held.get(member.number, 0) * member.load.trust) for member in members]


def _prefilled_by(placement: Placement, name: str | None) -> tuple[Member | None, int]:
    """Return the worker behind a name in an answer and the hit that was predicted for it."""
    if name == PREFILL_LOCAL or not placement.prefills:
        return placement.decode, placement.decode_hit
    for member, hit in zip(placement.prefills, placement.prefill_hits, strict=True):
        if name in (member.worker.name, member.worker.url):
            return member, hit
    return None, 0
