"""How workers move from one revision to the next."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_operator.actions import EnsurePool, RemovePool, ScalePool, Verify
from headrace_operator.desired import DeploymentName, Desired, Pace, Pool, PoolKey, Template, WorkerName
from headrace_operator.observed import Observed, ObservedPool, Phase, Weights, Worker
from headrace_operator.reconcile import reconcile
from headrace_operator.rollout import Held, retire, spread
from headrace_operator.routing import usable_workers

CHAT = DeploymentName("chat")
OLD = PoolKey(CHAT, "decode", "old")
NEW = PoolKey(CHAT, "decode", "new")


def pool(replicas: int, surge: int = 1, unavailable: int = 0, *, paused: bool = False) -> Pool:
    return Pool(CHAT, "decode", replicas, Template("file:///m"), "new", "pair", Pace(surge, unavailable, paused))


@pytest.mark.parametrize(
    ("name", "wanted", "held", "expected"),
    [
        ("the first revision takes all", pool(3), [], {NEW: 3}),
        ("a change of number takes effect at once", pool(5), [Held(NEW, 3, 3, 3)], {NEW: 5}),
        ("one surges", pool(3), [Held(OLD, 3, 3, 3)], {NEW: 1, OLD: 3}),
        ("nobody leaves before it is ready", pool(3), [Held(OLD, 3, 3, 3), Held(NEW, 1, 1, 0)], {NEW: 1, OLD: 3}),
        ("one leaves once it is", pool(3), [Held(OLD, 3, 3, 3), Held(NEW, 1, 1, 1)], {NEW: 1, OLD: 2}),
        ("a drain that lasts takes room", pool(3), [Held(OLD, 2, 3, 2), Held(NEW, 1, 1, 1)], {NEW: 1, OLD: 2}),
        ("the next one comes when it has ended", pool(3), [Held(OLD, 2, 2, 2), Held(NEW, 1, 1, 1)], {NEW: 2, OLD: 2}),
        ("what is not ready leaves first", pool(3), [Held(OLD, 3, 3, 1), Held(NEW, 1, 1, 0)], {NEW: 1, OLD: 1}),
        ("without surge one must be missed", pool(3, 0, 1), [Held(OLD, 3, 3, 3)], {NEW: 0, OLD: 2}),
        ("all at once", pool(3, 3), [Held(OLD, 3, 3, 3)], {NEW: 3, OLD: 3}),
        ("a pause holds both", pool(3, paused=True), [Held(OLD, 2, 2, 2), Held(NEW, 1, 1, 1)], {NEW: 1, OLD: 2}),
        ("a pause does not stop scaling", pool(5, paused=True), [Held(OLD, 3, 3, 3)], {OLD: 5}),
        ("a paused first revision is made", pool(3, paused=True), [], {NEW: 3}),
        (
            "someone needs the last old one",
            pool(1),
            [Held(OLD, 1, 1, 1, floor=1), Held(NEW, 1, 1, 1)],
            {NEW: 1, OLD: 1},
        ),
        ("zero needs nobody", pool(0), [Held(OLD, 2, 2, 2)], {NEW: 0, OLD: 0}),
    ],
)
def test_one_step(name: str, wanted: Pool, held: Sequence[Held], expected: dict[PoolKey, int]) -> None:
    assert spread(wanted, held) == expected, name


def test_what_is_not_wanted_goes_except_for_those_somebody_needs() -> None:
    assert retire([Held(OLD, 3, 3, 3), Held(NEW, 2, 2, 2, floor=1)]) == {OLD: 0, NEW: 1}


@dataclass
class Cluster:
    """A backend that lives in memory: workers load, drain and end when the test says so."""

    desired: Desired
    pools: dict[PoolKey, ObservedPool] = field(default_factory=dict)
    workers: list[Worker] = field(default_factory=list)
    verified: set[str] = field(default_factory=set)
    weights: Weights | None = None
    born: int = 0

    def observed(self) -> Observed:
        return Observed(
            tuple(self.pools.values()), tuple(self.workers), verified=frozenset(self.verified), weights=self.weights
        )

    def step(self) -> bool:
        """Apply what the decision asks for; return whether that was anything."""
        actions = reconcile(self.desired, self.observed())
        acted = False
        for action in actions:
            match action:
                case EnsurePool(pool):
                    self.pools[pool.key] = ObservedPool.of(pool)
                    self._hold(pool.key)
                case ScalePool(key, replicas):
                    self.pools[key] = replace(self.pools[key], replicas=replicas)
                    self._hold(key)
                case RemovePool(key):
                    del self.pools[key]
                case Verify(_, _, pair):
                    self.verified |= {pair.prefill, pair.decode}
                case _:
                    continue
            acted = True
        return acted

    def _hold(self, key: PoolKey) -> None:
        held = self.pools[key]
        staying = [one for one in self.workers if one.pool == key and one.phase is not Phase.DRAINING]
        for _ in range(held.replicas - len(staying)):
            self.born += 1
            name = f"{key.role}-{key.revision}-{self.born}"
            self.workers.append(
                Worker(
                    WorkerName(name), CHAT, key.role, Phase.STARTING, name, f"http://{name}",
                    revision=key.revision, pairing=held.pairing,
                )
            )  # fmt: skip
        for leaving in staying[held.replicas :]:
            self.workers[self.workers.index(leaving)] = replace(leaving, phase=Phase.DRAINING)

    def live(self, choice: int) -> bool:
        """Let one worker that loads or drains get to its end; return whether there was one."""
        moving = [one for one in self.workers if one.phase in {Phase.STARTING, Phase.DRAINING}]
        if not moving:
            return False
        one = moving[choice % len(moving)]
        at = self.workers.index(one)
        if one.phase is Phase.DRAINING:
            del self.workers[at]
        else:
            self.workers[at] = replace(one, phase=Phase.READY)
        return True

    def settle(self, choices: Sequence[int]) -> None:
        """Run until nothing moves."""
        for turn in range(400):
            acted = self.step()
            if not self.live(choices[turn % len(choices)]) and not acted:
                return
        raise AssertionError("the rollout does not end")


def split(revision: str, pairing: str, counts: tuple[int, int], pace: Pace) -> Desired:
    template = Template("file:///m")
    prefill = Pool(CHAT, "prefill", counts[0], template, revision, pairing, pace)
    return Desired((prefill, replace(prefill, role="decode", replicas=counts[1])))


PACES = st.builds(Pace, st.integers(0, 3), st.integers(0, 2)).filter(lambda pace: pace.surge or pace.unavailable)
COUNTS = st.tuples(st.integers(0, 3), st.integers(1, 3))


@settings(max_examples=200, deadline=None)
@given(PACES, COUNTS, st.sampled_from(["one", "two"]), st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_a_rollout_ends_within_its_bounds_and_always_answers(
    pace: Pace, counts: tuple[int, int], pairing: str, choices: list[int]
) -> None:
    cluster = Cluster(split("old", "one", counts, pace))
    cluster.settle(choices)
    cluster.desired = split("new", pairing, counts, pace)
    for turn in range(400):
        acted = cluster.step()
        now = cluster.observed()
        for role, number in (("prefill", counts[0]), ("decode", counts[1])):
            present = [one for one in cluster.workers if one.role == role]
            assert len(present) <= number + pace.surge
            if role == "decode":
                serving = [one for one in usable_workers(CHAT, now) if one.role == role]
                assert len(serving) >= number - pace.unavailable
        if not cluster.live(choices[turn % len(choices)]) and not acted:
            break
    assert set(cluster.pools) == {PoolKey(CHAT, "prefill", "new"), PoolKey(CHAT, "decode", "new")}
    assert {one.revision for one in cluster.workers} <= {"new"}
    assert [sum(one.role == role for one in cluster.workers) for role in ("prefill", "decode")] == list(counts)


@settings(max_examples=50, deadline=None)
@given(PACES, st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_old_decode_workers_have_a_prefill_worker_of_their_own_until_they_end(pace: Pace, choices: list[int]) -> None:
    if not pace.surge:
        return  # the room of the last old prefill worker may be all there is
    cluster = Cluster(split("old", "one", (2, 2), pace))
    cluster.settle(choices)
    cluster.desired = split("new", "two", (2, 2), pace)
    for turn in range(400):
        acted = cluster.step()
        serving = {one.role for one in usable_workers(CHAT, cluster.observed()) if one.pairing == "one"}
        assert serving in ({"prefill", "decode"}, set())
        if not cluster.live(choices[turn % len(choices)]) and not acted:
            return


def test_a_change_of_mode_keeps_answering() -> None:
    pace = Pace(1, 0)
    cluster = Cluster(split("old", "one", (1, 1), pace))
    cluster.settle([0])
    cluster.desired = Desired((Pool(CHAT, "unified", 1, Template("file:///m"), "new", "two", pace),))
    for _ in range(100):
        acted = cluster.step()
        assert any(one.role != "prefill" for one in usable_workers(CHAT, cluster.observed()))
        if not cluster.live(0) and not acted:
            break
    assert set(cluster.pools) == {PoolKey(CHAT, "unified", "new")}
    assert [one.role for one in cluster.workers] == ["unified"]


def test_workers_wait_for_the_weights_and_those_that_run_go_on() -> None:
    cluster = Cluster(split("old", "one", (1, 2), Pace()), weights=Weights(ready=False))
    cluster.settle([0])
    assert [held.replicas for held in cluster.pools.values()] == [0, 0]
    cluster.weights = Weights(ready=True)
    cluster.settle([0])
    assert len(cluster.workers) == 3
    cluster.desired, cluster.weights = split("new", "two", (1, 2), Pace()), Weights(ready=False)
    cluster.settle([0])
    assert {one.revision for one in cluster.workers} == {"old"}
    cluster.weights = Weights(ready=True)
    cluster.settle([0])
    assert {one.revision for one in cluster.workers} == {"new"}
