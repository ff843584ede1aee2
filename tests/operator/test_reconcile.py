"""The decision as tables: a snapshot in, actions out."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_operator.actions import (
    Action,
    DrainPool,
    EnsurePool,
    EnsureRouter,
    RemovePool,
    RemoveRouter,
    Route,
    Verify,
)
from headrace_operator.desired import DeploymentName, Desired, Pool, Role, Router, Template, WorkerName
from headrace_operator.observed import Endpoint, Observed, ObservedPool, ObservedRouter, Pair, Phase, Worker
from headrace_operator.reconcile import reconcile
from headrace_operator.routing import endpoints
from headrace_operator.status import conditions, is_ready

CHAT = DeploymentName("chat")
TEMPLATE = Template("file:///m")
PREFILL = Pool(CHAT, "prefill", 1, TEMPLATE)
DECODE = Pool(CHAT, "decode", 1, TEMPLATE)
UNIFIED = Pool(CHAT, "unified", 1, TEMPLATE)
ROUTER = Router(frozenset({CHAT}))
SPLIT = Desired((PREFILL, DECODE), ROUTER)


def worker(role: Role, phase: Phase = Phase.READY, ordinal: int = 0, incarnation: str = "") -> Worker:
    name = WorkerName(f"chat-{role}-{ordinal}")
    return Worker(name, CHAT, role, phase, incarnation or f"{role}{ordinal}", f"http://{name}")


def endpoint(one: Worker) -> Endpoint:
    assert one.url is not None
    return Endpoint(one.name, one.deployment, one.role, one.url, one.incarnation)


def held(*workers: Worker, verified: frozenset[str] = frozenset(), routed: tuple[Worker, ...] = ()) -> Observed:
    """A snapshot in which the split deployment and its router were already asked for."""
    return Observed(
        pools=(ObservedPool.of(PREFILL), ObservedPool.of(DECODE)),
        workers=workers,
        router=ObservedRouter(
            ROUTER, Phase.READY, "http://router", workers=frozenset(one.url for one in routed if one.url)
        ),
        verified=verified,
        routed=tuple(endpoint(one) for one in routed),
    )


P, D = worker("prefill"), worker("decode")
PAIR = Pair("prefill0", "decode0")
VERIFIED = frozenset({"prefill0", "decode0"})


@pytest.mark.parametrize(
    ("name", "observed", "expected"),
    [
        ("nothing is there", Observed(), (EnsureRouter(ROUTER), EnsurePool(PREFILL), EnsurePool(DECODE))),
        ("workers start", held(worker("prefill", Phase.STARTING), worker("decode", Phase.STARTING)), ()),
        ("only P is ready", held(P, worker("decode", Phase.STARTING)), ()),
        ("only D is ready", held(worker("prefill", Phase.STARTING), D), (Route((endpoint(D),)),)),
        ("both are ready", held(P, D, routed=(D,)), (Verify(P.name, D.name, PAIR),)),
        ("the trial runs", replace(held(P, D, routed=(D,)), probing=frozenset({PAIR})), ()),
        ("the trial rests", replace(held(P, D, routed=(D,)), resting=frozenset({PAIR})), ()),
        ("the trial worked", held(P, D, verified=VERIFIED, routed=(D,)), (Route((endpoint(P), endpoint(D))),)),
        ("all is well", held(P, D, verified=VERIFIED, routed=(P, D)), ()),
        (
            "P died",
            held(worker("prefill", Phase.BACKOFF), D, verified=VERIFIED, routed=(P, D)),
            (Route((endpoint(D),)),),
        ),
        ("D died", held(P, worker("decode", Phase.BACKOFF), verified=VERIFIED, routed=(P, D)), (Route(()),)),
        (
            "P came back as another incarnation",
            held(worker("prefill", incarnation="new"), D, verified=VERIFIED, routed=(D,)),
            (Verify(P.name, D.name, Pair("new", "decode0")),),
        ),
        (
            "a pool has another size",
            replace(
                held(P, D, verified=VERIFIED, routed=(P, D)),
                pools=(ObservedPool.of(PREFILL), ObservedPool(DECODE.key, 2)),
            ),
            (EnsurePool(DECODE),),
        ),
    ],
)
def test_one_deployment(name: str, observed: Observed, expected: tuple[Action, ...]) -> None:
    assert reconcile(SPLIT, observed) == expected, name


DRAINING = (ObservedPool.of(PREFILL), ObservedPool.of(DECODE, draining=True))


@pytest.mark.parametrize(
    ("name", "observed", "expected"),
    [
        ("all runs", held(P, D, verified=VERIFIED, routed=(P, D)), (RemoveRouter(),)),
        (
            "the router drains",
            replace(held(P, D), router=ObservedRouter(ROUTER, Phase.DRAINING)),
            (),
        ),
        ("the router has gone", replace(held(P, D), router=None), (DrainPool(DECODE.key),)),
        (
            "D drains",
            Observed(pools=DRAINING, workers=(P, worker("decode", Phase.DRAINING))),
            (),
        ),
        (
            "D has gone",
            Observed(pools=DRAINING, workers=(P, worker("decode", Phase.DEAD))),
            (DrainPool(PREFILL.key), RemovePool(DECODE.key)),
        ),
        (
            "P has gone",
            Observed(pools=(ObservedPool.of(PREFILL, draining=True),), workers=(worker("prefill", Phase.DEAD),)),
            (RemovePool(PREFILL.key),),
        ),
        ("nothing is left", Observed(), ()),
    ],
)
def test_the_end_of_everything_flows_downstream(name: str, observed: Observed, expected: tuple[Action, ...]) -> None:
    assert reconcile(Desired(), observed) == expected, name


def test_one_deployment_ends_while_another_goes_on() -> None:
    other = Pool(DeploymentName("other"), "unified", 1, TEMPLATE)
    observed = replace(held(P, D), pools=(ObservedPool.of(PREFILL), ObservedPool.of(DECODE), ObservedPool.of(other)))
    assert reconcile(Desired((other,), ROUTER), observed) == (DrainPool(DECODE.key),)


def test_a_pool_that_drains_is_made_anew_only_once_it_has_gone() -> None:
    observed = replace(held(P, D, verified=VERIFIED, routed=(P, D)), pools=DRAINING)
    assert reconcile(SPLIT, observed) == ()
    gone = replace(observed, pools=(ObservedPool.of(PREFILL),), workers=(P,), routed=())
    assert reconcile(SPLIT, gone) == (EnsurePool(DECODE),)


D1, P1 = worker("decode", ordinal=1), worker("prefill", ordinal=1)
D2, P2 = (replace(worker(role, ordinal=2), pairing="other") for role in ("decode", "prefill"))


@pytest.mark.parametrize(
    ("name", "workers", "verified", "expected"),
    [
        ("no P is ready: D serves alone", (D,), set(), {D}),
        ("the only D serves although no hand-off was tried", (P, D), set(), {D}),
        ("a second D waits for its trial", (P, D, D1), VERIFIED, {P, D}),
        ("a second P waits for its trial", (P, P1, D), VERIFIED, {P, D}),
        ("a D of another pairing whose P is not ready waits while others serve", (P, D, D2), VERIFIED, {P, D}),
        ("a P whose D are all gone serves nobody", (P2, D), {"prefill2", "decode0"}, {D}),
        ("P alone has nobody to serve", (P,), set(), set()),
        ("a draining D has no traffic", (P, worker("decode", Phase.DRAINING)), VERIFIED, set()),
        ("a unified worker needs no trial", (worker("unified"),), set(), {worker("unified")}),
    ],
)
def test_who_may_have_traffic(
    name: str, workers: tuple[Worker, ...], verified: set[str], expected: set[Worker]
) -> None:
    observed = Observed(workers=workers, verified=frozenset(verified))
    desired = Desired((PREFILL, DECODE, UNIFIED), ROUTER)
    assert set(endpoints(desired, observed)) == {endpoint(one) for one in expected}, name


def test_a_decode_worker_that_began_alone_is_not_taken_out_for_its_trial() -> None:
    desired = Desired((PREFILL, replace(DECODE, replicas=2)), ROUTER)
    alone = Observed(workers=(D, D1), routed=(endpoint(D), endpoint(D1)))
    assert endpoints(desired, alone) == alone.routed
    half = replace(alone, workers=(P, D, D1), verified=VERIFIED)
    assert endpoints(desired, half) == (endpoint(P), endpoint(D), endpoint(D1))
    failed = replace(half, resting=frozenset({Pair(P.incarnation, D1.incarnation)}))
    assert endpoints(desired, failed) == (endpoint(P), endpoint(D))


def test_ready_says_what_is_missing() -> None:
    observed = held(P, worker("decode", Phase.BACKOFF))
    last = conditions(CHAT, SPLIT, observed)[-1]
    assert (last.type, last.holds) == ("Ready", False)
    assert last.message.startswith("chat-decode-0 is in backoff; ")
    missing = "the hand-off of chat-prefill-0, chat-decode-0 is not verified yet"
    assert missing in conditions(CHAT, SPLIT, held(P, D))[-1].message
    assert "1 of 1 prefill workers not started yet" in conditions(CHAT, SPLIT, Observed())[-1].message
    assert not is_ready(SPLIT, held(P, D, verified=VERIFIED, routed=(D,)))
    well = held(P, D, verified=VERIFIED, routed=(P, D))
    assert is_ready(SPLIT, well)


def test_it_is_not_ready_before_the_router_has_taken_over_the_prefill_worker() -> None:
    assert D.url is not None
    late = ObservedRouter(ROUTER, Phase.READY, "http://router", workers=frozenset({D.url}))
    observed = replace(held(P, D, verified=VERIFIED, routed=(P, D)), router=late)
    last = conditions(CHAT, SPLIT, observed)[-1]
    assert (last.holds, last.message) == (False, "the router does not know all workers yet")


PHASES = st.sampled_from(Phase)
INCARNATIONS = st.sampled_from(["prefill0", "prefill1", "decode0", "decode1", "x", "y"])
WORKERS = st.builds(
    worker, st.sampled_from(["prefill", "decode"]), PHASES, st.integers(0, 1), st.sampled_from(["", "x", "y"])
)


@given(st.lists(WORKERS, max_size=4, unique_by=lambda one: one.name), st.frozensets(INCARNATIONS, max_size=4))
def test_whatever_is_observed_traffic_goes_to_ready_workers_with_tried_hand_offs(
    workers: list[Worker], verified: frozenset[str]
) -> None:
    desired = Desired((replace(PREFILL, replicas=2), replace(DECODE, replicas=2)), ROUTER)
    observed = Observed(workers=tuple(workers), verified=verified)
    routed = endpoints(desired, observed)
    ready = {one.name for one in workers if one.phase is Phase.READY}
    assert {one.name for one in routed} <= ready
    assert {one.incarnation for one in routed if one.role == "prefill"} <= verified
    if any(one.role == "decode" and one.phase is Phase.READY for one in workers):
        assert any(one.role == "decode" for one in routed), "a deployment with a ready decode worker always answers"
