"""What the operator's benchmark reads from the operator's own page of metrics."""

from benchmarks.running import calls_in, depth_in, writes_in

from headrace_operator.kubernetes.metrics import Metrics


def page(*calls: tuple[str, str], waiting: int = 0) -> str:
    """Return the page of an operator that has made these calls."""
    metrics = Metrics()
    metrics.watch(lambda: waiting, lambda: True, lambda: 1)
    for verb, kind in calls:
        metrics.call(verb, kind, 200, 0.01)
    return metrics.page().decode()


def test_looks_at_the_cluster_and_the_lease_are_no_calls_for_a_resource() -> None:
    idle = [("discover", "scaledobjects"), ("list", "pods"), ("watch", "pods"), ("patch", "leases"), ("get", "leases")]
    assert not calls_in(page(*idle))
    assert not writes_in(page(*idle))


def test_a_call_that_only_reads_is_no_write() -> None:
    told = page(("get", "secrets"), ("patch", "llmdeployments"), ("patch", "llmdeployments"), ("scale", "llmpools"))
    assert calls_in(told) == {("get", "secrets"): 1, ("patch", "llmdeployments"): 2, ("scale", "llmpools"): 1}
    assert writes_in(told) == {("patch", "llmdeployments"): 2, ("scale", "llmpools"): 1}


def test_what_waits_for_its_time_is_still_to_be_done() -> None:
    assert depth_in(page()) == 0
    assert depth_in(page(waiting=2)) == 2
