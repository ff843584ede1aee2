"""The rules of leadership as tables and as a race between candidates whose processes stop and wake at will."""

from hypothesis import given
from hypothesis import strategies as st

from headrace_operator.kubernetes.election import Election, LeaseSpec, Step, Terms, next_spec

TERMS = Terms(duration_s=15, renew_s=10, retry_s=2)
THEIRS = LeaseSpec("b", 15, "t0", "t1", 3)


def test_a_missing_lease_is_created() -> None:
    assert Election("a", TERMS).step(None, 0) is Step.CREATE


def test_a_lease_that_was_given_back_is_taken_at_once() -> None:
    assert Election("a", TERMS).step(LeaseSpec(None, 15, "t0", "t1", 3), 0) is Step.TAKE


def test_a_lease_is_taken_only_once_it_has_not_changed_for_its_duration_by_our_own_clock() -> None:
    election = Election("a", TERMS)

    assert election.step(THEIRS, 100) is Step.WAIT
    assert election.step(THEIRS, 114.9) is Step.WAIT
    assert election.step(THEIRS, 115) is Step.TAKE


def test_each_renewal_of_the_holder_starts_the_wait_anew() -> None:
    election = Election("a", TERMS)
    election.step(THEIRS, 100)

    assert election.step(LeaseSpec("b", 15, "t0", "t2", 3), 114) is Step.WAIT
    assert election.step(LeaseSpec("b", 15, "t0", "t2", 3), 128) is Step.WAIT


def test_the_holders_own_duration_counts() -> None:
    election = Election("a", TERMS)
    patient = LeaseSpec("b", 60, "t0", "t1", 3)
    election.step(patient, 0)

    assert election.step(patient, 20) is Step.WAIT


def test_leadership_ends_before_the_lease_does_counted_from_when_it_was_asked_for() -> None:
    election = Election("a", TERMS)
    election.held(next_spec(None, "a", TERMS, "t"), 100)

    assert election.left_s(101) == 9
    assert election.left_s(110) == 0
    assert election.left_s(109.9) > 0
    election.lost()
    assert election.left_s(101) == 0


def test_a_transition_is_counted_when_the_holder_changes_and_only_then() -> None:
    taken = next_spec(THEIRS, "a", TERMS, "t9")
    renewed = next_spec(taken, "a", TERMS, "t10")

    assert taken == LeaseSpec("a", 15, "t9", "t9", 4)
    assert renewed == LeaseSpec("a", 15, "t9", "t10", 4)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.1, 12.0)), min_size=1, max_size=60))
def test_two_candidates_never_lead_at_the_same_time(turns: list[tuple[str, float]]) -> None:
    """Each turn one candidate, stopped until then for any time, reads and writes; the other may believe anything."""
    candidates = {name: Election(name, TERMS) for name in "ab"}
    lease: LeaseSpec | None = None
    now = 0.0
    for number, (name, passes_s) in enumerate(turns):
        now += passes_s
        election = candidates[name]
        if election.step(lease, now) is Step.WAIT:
            election.lost()
        else:
            lease = next_spec(lease, name, TERMS, f"t{number}")
            election.held(lease, now)
        assert sum(one.left_s(now) > 0 for one in candidates.values()) <= 1
