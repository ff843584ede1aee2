"""`headrace cost`: reports from a ledger and from a router, and new keys."""

import csv
import io
import json
import time
from pathlib import Path

import pytest
from tests.router.cost.lines import line

from headrace_cli.main import main
from headrace_router.cost.sqlite import SqliteStore
from headrace_router.cost.tenants import Keys


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    path = tmp_path / "ledger.db"
    store = SqliteStore(path)
    now_s = time.time()
    store.append([line(f"e{number}", at=now_s, team="search" if number else "ads") for number in range(4)])
    store.append([line("old", at=now_s - 9 * 86_400)])
    store.close()
    return f"sqlite:{path}"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["cost", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_table_shows_the_dearest_first(capsys: pytest.CaptureFixture[str], ledger: str) -> None:
    status, out, _ = run(capsys, "report", "--ledger", ledger, "--by", "team,tier")
    assert status == 0
    head, first, second = out.splitlines()
    assert head.split()[:3] == ["team", "tier", "requests"]
    assert first.split()[:3] == ["search", "small", "3"]
    assert second.split()[:3] == ["ads", "small", "1"]
    assert first.endswith("0.00000009  0.00000009  USD")


def test_csv_and_json_are_exact(capsys: pytest.CaptureFixture[str], ledger: str) -> None:
    _, out, _ = run(capsys, "report", "--ledger", ledger, "--by", "team", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["team"], row["billed"]) for row in rows] == [("search", "0.00000009"), ("ads", "0.00000003")]
    _, out, _ = run(capsys, "report", "--ledger", ledger, "--by", "team", "--since", "2w", "--format", "json")
    assert [row["requests"] for row in json.loads(out)["rows"]] == [4, 1]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--by", "colour"), 2, "nothing to group by"),
        (("--since", "soon"), 2, "no span of time"),
        (("--ledger", "sqlite:/nowhere/x.db"), 1, "cannot be opened"),
        (("--url", "http://127.0.0.1:9"), 1, "cannot be asked"),
    ],
)
def test_what_cannot_be_reported_is_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], status: int, said: str
) -> None:
    found, _, err = run(capsys, "report", *arguments)
    assert found == status
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_new_key_opens_the_door_that_its_entry_describes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, out, _ = run(capsys, "key", "anne", "--team", "search", "--organisation", "acme", "--admin")
    _, key, _, entry = out.splitlines()
    path = tmp_path / "keys.yaml"
    path.write_text(f"keys:\n{entry}\n")
    keys = Keys(path)
    keys.load()
    tenant = keys.find(b"Bearer " + key.strip().encode())
    assert (tenant.key, tenant.team, tenant.organisation, tenant.admin) == ("anne", "search", "acme", True)
    assert run(capsys, "key", "anne")[1] != out
