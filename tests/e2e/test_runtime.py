from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from e2e.cluster import runtime

PRIVILEGED = {
    "args": ["sleep"],
    "oomScoreAdj": -999,
    "capabilities": {"bounding": ["CAP_SYS_ADMIN", "CAP_SYS_RESOURCE"], "effective": ["CAP_SYS_RESOURCE"]},
}
LOWERED = {
    "args": ["sleep"],
    "oomScoreAdj": 0,
    "capabilities": {"bounding": ["CAP_SYS_ADMIN"], "effective": []},
}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("Name:\tx\nCapEff:\t000001fffeffffff\n", True),
        ("Name:\tx\nCapEff:\t000001ffffffffff\n", False),
        ("Name:\tx\n", False),
    ],
)
def test_the_wrapper_is_needed_where_the_capability_is_missing(*, status: str, expected: bool) -> None:
    assert runtime.is_needed(status) is expected


def test_the_capability_and_the_protection_are_taken_out() -> None:
    assert runtime.without_capability(PRIVILEGED) == LOWERED


def test_a_process_without_wishes_stays_as_it_is() -> None:
    process = {"args": ["sleep"], "oomScoreAdj": 100}

    assert runtime.without_capability(process) == process


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--root", "/r", "create", "--bundle", "/b", "--pid-file", "/p", "name"], "/b/config.json"),
        (["run", "-b", "/b", "name"], "/b/config.json"),
        (["create", "--bundle=/b", "name"], "/b/config.json"),
        (["--root", "/r", "exec", "--process", "/x/process.json", "name"], "/x/process.json"),
        (["exec", "name", "true"], None),
        (["delete", "name"], None),
        (["--root", "/r", "state", "name"], None),
    ],
)
def test_the_specification_of_a_call_is_found(arguments: list[str], expected: str | None) -> None:
    assert runtime.specification(arguments) == (Path(expected) if expected else None)


@pytest.mark.parametrize(
    ("call", "name", "before", "after"),
    [
        (["create", "--bundle", "{folder}", "c"], "config.json", {"process": PRIVILEGED}, {"process": LOWERED}),
        (["exec", "--process", "{folder}/process.json", "c"], "process.json", PRIVILEGED, LOWERED),
    ],
)
def test_the_wrapper_edits_the_specification_and_becomes_runc(
    tmp_path: Path, call: list[str], name: str, before: dict[str, object], after: dict[str, object]
) -> None:
    (tmp_path / "runc").write_text('#!/bin/sh\necho "runc $*"\n')
    (tmp_path / "runc").chmod(0o755)
    (tmp_path / name).write_text(json.dumps(before))
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(runtime.wrapper_text(sys.executable, runtime.__file__))
    wrapper.chmod(0o755)
    arguments = [word.replace("{folder}", str(tmp_path)) for word in call]

    done = subprocess.run(
        [wrapper, *arguments], check=True, capture_output=True, text=True, env={"PATH": f"{tmp_path}:/bin"}, timeout=30
    )

    assert done.stdout == f"runc {' '.join(arguments)}\n"
    assert json.loads((tmp_path / name).read_text()) == after
