"""`headrace cost advise`: from a real router's ledger, beside it and through it, and what it refuses."""

import asyncio
import json
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.router.cascade.ladder import auto, gate_file, ladder
from tests.router.rig import run as drive

from headrace_cli.advice import report as reports
from headrace_cli.advice.gates import settings_of
from headrace_cli.main import main
from headrace_router.cost.entry import COLUMNS, Entry
from headrace_router.cost.sqlite import SqliteStore

NUM_REQUESTS = 240
EVERY_S = 60.0


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["cost", "advise", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


async def _serve(it: Any, small: Any) -> None:
    chance = random.Random(5)
    for number in range(NUM_REQUESTS):
        small.logprob = -chance.random()
        assert (await it.ask(auto("anne", stream=number % 2 == 0))).status == 200


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a router with two tiers wrote, its requests a minute apart."""
    folder = tmp_path_factory.mktemp("advice")

    async def main() -> None:
        async with ladder(folder, priced=True) as (it, small, _):
            await _serve(it, small)

    drive(main())
    real = SqliteStore(folder / "ledger.db", read_only=True)
    rows = real.query(f"SELECT {', '.join(COLUMNS)} FROM entries ORDER BY at", ())
    real.close()
    lines = [Entry(**dict(zip(COLUMNS, row, strict=True))) for row in rows]
    requests = list(dict.fromkeys(_request(line) for line in lines))
    apart = SqliteStore(folder / "apart.db")
    apart.append([_earlier(line, EVERY_S * (NUM_REQUESTS - requests.index(_request(line)))) for line in lines])
    apart.close()
    return f"sqlite:{folder / 'apart.db'}"


def _request(line: Entry) -> str:
    return line.entry.partition("~")[0]


def _earlier(line: Entry, seconds: float) -> Entry:
    return msgspec.structs.replace(line, at=line.at - seconds)


def test_a_real_ledger_gets_advice_whose_amounts_are_its_own(
    capsys: pytest.CaptureFixture[str], ledger: str, tmp_path: Path
) -> None:
    arguments = ("--ledger", ledger, "--gate", str(gate_file(tmp_path)), "--may-lose", "0.5", "--json")
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    told = json.loads(out)
    assert told["requests"] == NUM_REQUESTS
    now, half, whole = told["tables"]["threshold"]
    assert (half["escalate"], whole["escalate"]) == ("target 0.5", "target 1")
    assert half["escalated"] < now["escalated"] < whole["escalated"], "the router ran with target 0.95"
    (same,) = [one for one in settings_of(gate_file(tmp_path)) if one.name == "target 0.95"]
    assert not same.is_own, "the file has no threshold for it, and it is no choice here"
    (found,) = [one for one in told["advice"] if one["topic"] == "threshold"]
    assert found["instead"].startswith("Set `cascade.target` to 0.5: ")
    assert found["requests"] == NUM_REQUESTS
    assert 0 < found["saving"] < told["spent"]


def test_the_page_has_picture_table_and_words(capsys: pytest.CaptureFixture[str], ledger: str, tmp_path: Path) -> None:
    status, out, _ = run(capsys, "--ledger", ledger, "--may-lose", "0.5", "--out", str(tmp_path / "new"))
    assert status == 0
    page = (tmp_path / "new" / "advice.html").read_text()
    assert (tmp_path / "new" / "advice.png").read_bytes().startswith(b"\x89PNG")
    assert "data:image/png;base64," in page
    assert "threshold, small to large" in page
    assert out.splitlines()[0] in page
    assert "advice.html" in out


def test_a_router_is_asked_as_its_admin(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "MIN_SPAN_S", 0.0)

    async def serve() -> tuple[tuple[int, str, str], tuple[int, str, str]]:
        async with ladder(tmp_path, priced=True) as (it, small, _):
            await _serve(it, small)
            answers = []
            for name in ("root", "anne"):
                monkeypatch.setenv("HEADRACE_API_KEY", f"key-{name}")
                asked = ("--url", it.process.url, "--since", "1h", "--may-lose", "0.5")
                answers.append(await asyncio.to_thread(run, capsys, *asked))
            return answers[0], answers[1]

    found: list[Any] = []

    async def main() -> None:
        found.extend(await serve())

    drive(main())
    (status, out, _), (refused, _, said) = found
    assert status == 0
    assert f"{NUM_REQUESTS} requests" in out
    assert "threshold, small to large" in out
    assert (refused, "may not read everybody's costs" in said) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--since", "soon"), 2, "no span of time"),
        (("--ledger", "sqlite:/nowhere/x.db"), 1, "cannot be opened"),
        (("--url", "http://127.0.0.1:9"), 1, "cannot be asked"),
        (("--gate", "/nowhere/gate.json"), 2, "cannot be read"),
        (("--trace", "/nowhere/trace.jsonl"), 2, "cannot be read"),
    ],
)
def test_what_cannot_be_advised_on_is_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], status: int, said: str
) -> None:
    found, _, err = run(capsys, *arguments)
    assert found == status
    assert said in err
    assert len(err.splitlines()) == 1


class _Stranger(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.mark.parametrize("command", ["advise", "report"])
def test_something_else_at_the_address_is_one_sentence(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Stranger) as server:
        threading.Thread(target=server.serve_forever).start()
        status = main(["cost", command, "--url", f"http://127.0.0.1:{server.server_port}"])
        server.shutdown()
    assert (status, "is no router of Headrace" in capsys.readouterr().err) == (1, True)


def test_an_empty_ledger_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    SqliteStore(tmp_path / "ledger.db").close()
    status, _, err = run(capsys, "--ledger", f"sqlite:{tmp_path / 'ledger.db'}")
    assert (status, "no line in that time" in err) == (1, True)


@pytest.mark.parametrize("share", ["-0.1", "2", "much"])
def test_a_share_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], share: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run(capsys, "--may-lose", share)
    assert ended.value.code == 2
    assert "is no share" in capsys.readouterr().err
