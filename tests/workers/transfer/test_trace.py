import json
from pathlib import Path

import pytest

from headrace_api.frames import Token
from headrace_api.handoff import Grant, Layout
from headrace_worker.transfer.source import PostWrite, Source, Terms
from headrace_worker.transfer.trace import Trace, describe

LAYOUT = Layout(base=0, num_layers=2, num_blocks=10, block_bytes=100)


def test_a_trace_shows_when_each_layer_was_computed_posted_and_written(tmp_path: Path) -> None:
    source = Source("a", Terms(LAYOUT, LAYOUT), queue_deadline_s=10.0, now=100.0)
    source.start(101.0)
    source.grant(Grant("a", 0, (4, 5), 60.0), 101.5)
    for layer, ready_s in ((0, 102.0), (1, 103.0)):
        (write,) = source.ready(range(layer, layer + 1), 0, (1, 2), ready_s, ready_s + 0.1)
        assert isinstance(write, PostWrite)
        source.write_done(write.number, ready_s + 0.5)
    source.finish(Token(1, 0.0, 0.0), 0, 104.0)
    trace = Trace(tmp_path / "trace.jsonl")
    trace(describe(source, "admitted", worker="p", peer="d"))
    trace.close()
    (line,) = (tmp_path / "trace.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert (record["attempt"], record["prefill"], record["decode"], record["outcome"]) == ("a", "p", "d", "admitted")
    assert (record["started_s"], record["granted_s"], record["finished_s"]) == (1.0, 1.5, 4.0)
    assert (record["sent_bytes"], record["transfer_s"], record["exposed_s"]) == (400, 1.4, 0.5)
    assert record["pieces"][0] == {
        "layers": [0, 1],
        "blocks": [0, 2],
        "bytes": 200,
        "computed_s": 2.0,
        "posted_s": 2.1,
        "ended_s": 2.5,
    }


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the full device is Linux's")
def test_a_full_disk_costs_the_trace_only() -> None:
    trace = Trace(Path("/dev/full"))
    trace({"attempt": "a"})
    trace.close()


def test_an_attempt_that_never_wrote_is_traced_too() -> None:
    source = Source("a", Terms(LAYOUT, LAYOUT), queue_deadline_s=10.0, now=0.0)
    source.abort(1.0)
    record = describe(source, "aborted", worker="p", peer="d")
    assert (record["started_s"], record["granted_s"], record["transfer_s"], record["pieces"]) == (None, None, 0.0, [])
