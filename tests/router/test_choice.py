"""The choice of workers: pure scores, the prefix index, loads, breakers, and how placement ties them together."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from headrace_api.frames import Usage
from headrace_router.choose.load import Load
from headrace_router.choose.prefix import CHUNK_BYTES, PrefixIndex, chain
from headrace_router.choose.score import MAX_RANKED, Costs, best_decode, decode_ms, prefill_ms, rank_prefill
from headrace_router.discovery.registry import Deployment, Registry
from headrace_router.discovery.worker import Role, Worker, worker_at
from headrace_router.placement import Placement, Placer
from headrace_router.resilience.breaker import FIRST_PAUSE_S, LONGEST_PAUSE_S, Breaker

COSTS = Costs(prefill_ms_per_byte=0.025, transfer_ms_per_byte=0.003, stream_ms=5.0, pressure_ms_per_byte=0.0005)
TEXT = bytes(range(256)) * 40
ALONE = (None, None)
"""Two decode workers that no prefill worker pairs with."""


# --- scores --------------------------------------------------------------------------------------------------


def test_the_worker_with_the_longer_prefix_wins_among_equally_loaded_ones() -> None:
    candidates = [(Load(), 0.0), (Load(), 5000.0), (Load(), 2000.0)]
    assert [index for _, index in rank_prefill(candidates, 10_000, COSTS, 0)] == [1, 2, 0]
    assert best_decode(candidates, 10_000, COSTS, turn=0, prefill_ms=[0.0] * 3) == 1


def test_a_queue_outweighs_a_prefix_hit_when_it_is_longer() -> None:
    busy = Load(waiting_bytes=20_000)
    assert rank_prefill([(busy, 9000.0), (Load(), 0.0)], 10_000, COSTS, 0)[0][1] == 1
    assert rank_prefill([(Load(waiting_bytes=5000), 9000.0), (Load(), 0.0)], 10_000, COSTS, 0)[0][1] == 0


def test_equal_workers_take_turns() -> None:
    candidates = [(Load(), 0.0)] * 3
    assert {best_decode(candidates, 100, COSTS, turn=turn, prefill_ms=[None] * 3) for turn in range(3)} == {0, 1, 2}
    assert {rank_prefill(candidates, 100, COSTS, turn)[0][1] for turn in range(3)} == {0, 1, 2}


def test_requests_and_held_kv_push_work_to_the_emptier_decode_worker() -> None:
    assert best_decode([(Load(requests=3), 0.0), (Load(requests=2), 0.0)], 100, COSTS, turn=0, prefill_ms=ALONE) == 1
    assert best_decode([(Load(held_bytes=9000), 0.0), (Load(), 0.0)], 100, COSTS, turn=0, prefill_ms=ALONE) == 1


def test_a_hit_on_a_decode_worker_saves_the_transfer_and_on_a_unified_one_the_prefill() -> None:
    assert decode_ms(Load(), 1000, 400.0, COSTS) == 600 * COSTS.transfer_ms_per_byte
    assert decode_ms(Load(unified=True), 1000, 400.0, COSTS) == 600 * COSTS.prefill_ms_per_byte
    assert prefill_ms(Load(), 1000, 400.0, COSTS) == 600 * COSTS.prefill_ms_per_byte


def test_a_unified_worker_with_the_prompt_cached_beats_a_hand_off() -> None:
    candidates = [(Load(), 0.0), (Load(unified=True), 9900.0)]
    assert best_decode(candidates, 10_000, COSTS, turn=0, prefill_ms=[250.0] * 2) == 1
    candidates = [(Load(), 0.0), (Load(unified=True), 0.0)]
    assert best_decode(candidates, 10_000, COSTS, turn=0, prefill_ms=[20.0] * 2) == 0


def test_only_so_many_prefill_workers_are_named() -> None:
    assert len(rank_prefill([(Load(), 0.0)] * 50, 100, COSTS, 3)) == MAX_RANKED


# --- the prefix index ----------------------------------------------------------------------------------------


def test_equal_beginnings_have_equal_hashes_and_only_those() -> None:
    one, other = chain(TEXT, "m"), chain(TEXT[: 5 * CHUNK_BYTES] + b"!" + TEXT, "m")
    assert one[:5] == other[:5]
    assert one[5] != other[5]
    assert not set(one) & set(chain(TEXT, "n"))
    assert chain(b"x" * (CHUNK_BYTES - 1), "m") == ()


def test_the_index_finds_the_longest_beginning_of_each_holder() -> None:
    index = PrefixIndex(1000)
    hashes = chain(TEXT, "m")
    index.record(hashes[:3], 1)
    index.record(hashes[:7], 2)
    assert index.hits(hashes) == {1: 3 * CHUNK_BYTES, 2: 7 * CHUNK_BYTES}
    assert index.hits(chain(b"other" * 1000, "m")) == {}
    index.forget([2])
    assert index.hits(hashes) == {1: 3 * CHUNK_BYTES}
    index.forget([1])
    assert len(index) == 0


def test_the_end_of_a_text_is_forgotten_before_its_beginning() -> None:
    index = PrefixIndex(10)
    old, new = chain(b"a" * 20 * CHUNK_BYTES, "m")[:8], chain(b"b" * 20 * CHUNK_BYTES, "m")[:6]
    index.record(old, 1)
    index.record(new, 1)
    assert index.hits(new) == {1: 6 * CHUNK_BYTES}
    assert index.hits(old) == {1: 4 * CHUNK_BYTES}


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12), st.integers(0, 3)), max_size=60), st.integers(0, 20))
def test_the_index_never_grows_beyond_its_bound_and_never_claims_what_was_not_recorded(
    records: list[tuple[int, int, int]], bound: int
) -> None:
    index = PrefixIndex(bound)
    texts = [tuple(range(100 * number, 100 * number + 12)) for number in range(5)]
    told: set[tuple[int, int, int]] = set()
    for text, length, holder in records:
        index.record(texts[text][:length], holder)
        told |= {(text, size, holder) for size in range(1, length + 1)}
        index.check()
        for number, hashes in enumerate(texts):
            for found, size in index.hits(hashes).items():
                assert (number, size // CHUNK_BYTES, found) in told


# --- breaker and trust ---------------------------------------------------------------------------------------


def test_the_breaker_opens_for_a_growing_time_and_closes_with_an_answer() -> None:
    breaker, now_s, pauses = Breaker(), 100.0, []
    for _ in range(8):
        breaker.failed(now_s)
        pauses.append(breaker.open_until_s - now_s)
        assert not breaker.closed(now_s)
        now_s = breaker.open_until_s
        assert breaker.closed(now_s)
    assert pauses[:4] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S, 8 * FIRST_PAUSE_S]
    assert pauses[-1] == LONGEST_PAUSE_S
    breaker.succeeded()
    breaker.failed(now_s)
    assert breaker.open_until_s - now_s == FIRST_PAUSE_S


def test_requests_that_are_lost_together_open_the_breaker_once() -> None:
    breaker = Breaker()
    for _ in range(20):
        breaker.failed(5.0)
    assert breaker.open_until_s == 5.0 + FIRST_PAUSE_S


def test_trust_follows_how_far_predictions_come_true() -> None:
    load = Load()
    for _ in range(30):
        load.judge(0.8, 0.0)
    assert load.trust < 0.01
    for _ in range(30):
        load.judge(0.5, 0.9)
    assert load.trust > 0.99
    load.judge(0.0, 0.0)
    assert load.trust > 0.99


# --- placement -----------------------------------------------------------------------------------------------


def _worker(name: str, role: Role = "decode", pairing: str = "") -> Worker:
    url = f"http://{name}:1"
    return worker_at(url, deployment="chat", role=role, incarnation="1", name=name, pairing=pairing)


def _fleet(*workers: Worker) -> tuple[Placer, Registry, Deployment]:
    registry = Registry()
    registry.update(workers, ["chat"])
    return Placer(COSTS, 10_000), registry, registry.deployments["chat"]


def _place(placer: Placer, deployment: Deployment, text: bytes = TEXT, now_s: float = 0.0) -> Placement:
    placement = placer.place(deployment, chain(text, "chat"), len(text), None, now_s)
    assert placement is not None
    return placement


def test_a_prompt_goes_back_to_the_pair_that_served_its_beginning() -> None:
    placer, _, deployment = _fleet(_worker("d0"), _worker("d1"), _worker("p0", "prefill"), _worker("p1", "prefill"))
    first = _place(placer, deployment)
    served = first.prefills[1].worker.name
    placer.learn(first, chain(TEXT, "chat"), served, Usage(100, 1, 0), 0.0)
    placer.end(first)
    for _ in range(4):
        again = _place(placer, deployment, TEXT + b"and more", now_s=100.0)
        assert again.decode is first.decode
        assert again.prefills[0].worker.name == served
        placer.end(again)


def test_what_decode_prefilled_itself_is_not_credited_to_a_prefill_worker() -> None:
    placer, _, deployment = _fleet(_worker("d0"), _worker("p0", "prefill"), _worker("p1", "prefill"))
    placement = _place(placer, deployment)
    placer.learn(placement, chain(TEXT, "chat"), "local", None, 0.0)
    placer.end(placement)
    assert _place(placer, deployment).prefill_hits == (0, 0)


def test_accounts_return_to_zero_whatever_happened() -> None:
    placer, _, deployment = _fleet(_worker("d0"), _worker("d1"), _worker("p0", "prefill"))
    placements = [_place(placer, deployment, TEXT[: 1000 * number]) for number in range(1, 9)]
    assert sum(member.load.requests for member in deployment.decoders) == 8
    assert deployment.prefillers[0].load.requests == 8
    for number, placement in enumerate(placements):
        if number % 2:
            placer.prefilled(placement)
            placer.prefilled(placement)
        placer.end(placement)
    for member in deployment.decoders + deployment.prefillers:
        assert (member.load.requests, member.load.waiting_bytes, member.load.held_bytes) == (0, 0, 0)


def test_a_prefill_worker_that_was_passed_over_is_ranked_lower_for_a_while() -> None:
    placer, _, deployment = _fleet(_worker("d0"), _worker("p0", "prefill"), _worker("p1", "prefill"))
    placement = _place(placer, deployment, b"")
    silent, served = placement.prefills
    placer.learn(placement, (), served.worker.name, None, 50.0)
    placer.end(placement)
    for _ in range(3):
        assert _place(placer, deployment, b"", now_s=50.1).prefills == (served,)
    assert set(_place(placer, deployment, b"", now_s=51.0).prefills) == {served, silent}


def test_no_decode_worker_means_no_placement() -> None:
    placer, _, deployment = _fleet(_worker("p0", "prefill"))
    assert placer.place(deployment, (), 1, None, 0.0) is None
    placer, _, deployment = _fleet(_worker("d0"))
    deployment.decoders[0].breaker.failed(0.0)
    assert placer.place(deployment, (), 1, None, 0.1) is None
    assert placer.place(deployment, (), 1, set(deployment.decoders), 100.0) is None


def test_only_workers_of_one_pairing_serve_a_request_together() -> None:
    placer, _, deployment = _fleet(
        _worker("d-old", pairing="old"),
        _worker("d-new", pairing="new"),
        _worker("d-alone", pairing="alone"),
        _worker("p-old", "prefill", "old"),
        _worker("p-old-too", "prefill", "old"),
        _worker("p-new", "prefill", "new"),
    )
    partners = {"d-old": {"p-old", "p-old-too"}, "d-new": {"p-new"}, "d-alone": set()}
    placements = [_place(placer, deployment) for _ in range(12)]
    assert {placement.decode.worker.name for placement in placements} >= {"d-old", "d-new"}
    for placement in placements:
        found = {member.worker.name for member in placement.prefills}
        assert found == partners[placement.decode.worker.name]


def test_the_one_prefill_worker_is_left_out_where_it_does_not_pair_with_the_one_decode_worker() -> None:
    for pairing, pairs in (("", False), ("x", True), ("y", False)):
        placer, _, deployment = _fleet(_worker("d0", pairing=pairing), _worker("p0", "prefill", "x"))
        assert bool(_place(placer, deployment).prefills) is pairs


def test_unified_workers_are_not_told_of_prefill_workers() -> None:
    placer, _, deployment = _fleet(_worker("u0", "unified"), _worker("p0", "prefill"))
    assert _place(placer, deployment).prefills == ()


def test_members_survive_updates_and_restarted_workers_are_new_ones() -> None:
    _, registry, deployment = _fleet(_worker("d0"), _worker("d1"))
    first, second = deployment.decoders
    first.load.requests = 3
    restarted = msgspec.structs.replace(second.worker, incarnation="2")
    assert registry.update([first.worker, restarted], ["chat"]) == [second]
    kept, fresh = registry.deployments["chat"].decoders
    assert kept is first
    assert fresh.number not in (first.number, second.number)
