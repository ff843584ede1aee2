"""What advice is drawn from: how requests went through tiers, and sums by tenant, hour and pool."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.router.cascade.ladder import DOUBTFUL, auto, ladder
from tests.router.cost.lines import OLD_COLUMNS, OLD_INSERT, OLD_TABLE, line, old_values
from tests.router.cost.shop import lines
from tests.router.rig import run, until

from headrace_router.cost import facts as module
from headrace_router.cost.entry import Entry, Judged
from headrace_router.cost.facts import Facts, Leg, read_facts
from headrace_router.cost.report import ReportError
from headrace_router.cost.sqlite import SqliteStore
from headrace_router.cost.store import Store

SMALL, LARGE = {"tier": "small", "model": "chat"}, {"tier": "large", "model": "llama"}


def judged(entry: Entry, found: Judged) -> Entry:
    return msgspec.structs.replace(entry, gain=found.gain, stage=found.stage)


def read(store: Store, since_s: float = 0.0) -> Facts:
    return read_facts(store.query, store.columns(), since_s)


def test_legs_say_what_went_on_and_what_that_cost(store: Store) -> None:
    store.append(
        [
            judged(line("a~small", cost=7, **SMALL), Judged(0.1, "whole")),
            judged(line("b~small", kind="tried", cost=3, at=1_000_000.0, **SMALL), Judged(0.6, "prefix")),
            line("b~large", cost=50, at=1_000_001.0, **LARGE),
        ]
    )
    assert sorted(read(store).legs, key=lambda leg: leg.cost) == [
        Leg("small", 3, 0.6, "prefix", "large", 50),
        Leg("small", 7, 0.1, "whole", None, 0),
    ]


def test_every_tier_between_the_first_and_the_one_that_answered_is_a_leg(store: Store) -> None:
    names = ("small", "middle", "large")
    kinds = ("failed", "tried", "request")
    store.append(
        [
            line(f"a~{name}", tier=name, kind=kind, at=1_000_000.0 + place, cost=10**place)
            for place, (name, kind) in enumerate(zip(names, kinds, strict=True))
        ]
    )
    found = [(leg.tier, leg.gain, leg.onward, leg.after) for leg in read(store).legs]
    assert found == [("small", None, "middle", 110), ("middle", None, "large", 100)]


def test_what_says_nothing_of_a_choice_is_no_leg(store: Store) -> None:
    store.append(
        [
            line("plain"),
            line("a~small", kind="tried", **SMALL),  # no tier answered
            line("b~large", **LARGE),  # began at the last tier
            judged(line("c~small", at=1.0, cost=4, **SMALL), Judged(0.1, "whole")),
            line("c~large", kind="tried", at=2.0, **LARGE),  # was asked beside it, in case
        ]
    )
    store.append([line("c~small", at=1.5, **SMALL)])  # a repeat
    assert read(store).legs == (Leg("small", 4, 0.1, "whole", None, 0),)


def test_samples_and_verifier_are_part_of_what_their_tier_cost_and_audits_of_nothing(store: Store) -> None:
    names = {"small": 2, "small.1": 3, "small.2": 4, "large~verify": 5, "large": 100, "large~audit": 1000}
    store.append(
        [
            line(
                f"a~{name}",
                tier=name.partition("~")[0].partition(".")[0],
                kind="request" if name == "large" else "tried",
                at=1_000_000.0 + place,
                cost=cost,
            )
            for place, (name, cost) in enumerate(names.items())
        ]
    )
    assert [(leg.tier, leg.cost, leg.onward, leg.after) for leg in read(store).legs] == [("small", 14, "large", 100)]


@pytest.mark.parametrize(
    "cascade", [{"policy": "best-of-k", "samples": 3}, {"policy": "ask", "verifier": "large"}, {"audit": 1.0}]
)
def test_whatever_judges_a_request_goes_on_only_where_another_tier_answered(
    tmp_path: Path, cascade: dict[str, Any]
) -> None:
    async def main() -> None:
        async with ladder(tmp_path, cascade, priced=True) as (it, small, large):
            small.says = lambda _: "It is Paris."
            large.says = lambda _: "yes"
            reply = await it.ask(auto("anne"))
            assert reply.headers["x-headrace-tier"] == "small"
            await until(lambda: len(lines(tmp_path)) >= 2, "what was asked beside it")
            small.says = lambda seen: str(seen.fields["seed"])
            large.says = lambda _: "no"
            if "policy" in cascade:
                assert (await it.ask(auto("anne"))).headers["x-headrace-tier"] == "small,large"

    run(main())
    store = SqliteStore(tmp_path / "ledger.db", read_only=True)
    onward = sorted(leg.onward or "" for leg in read(store).legs)
    store.close()
    assert onward == (["", "large"] if "policy" in cascade else [""])


def test_answers_that_another_policy_let_pass_count_as_kept(store: Store) -> None:
    went = [line("a~small", kind="tried", cost=2, at=1.0, **SMALL), line("a~large", cost=50, at=2.0, **LARGE)]
    store.append([*went, line("b~small", cost=3, **SMALL), line("c~large", cost=60, **LARGE)])
    found = sorted(read(store).legs, key=lambda leg: leg.cost)
    assert [(leg.tier, leg.cost, leg.onward) for leg in found] == [("small", 2, "large"), ("small", 3, None)]


def test_sums_are_those_of_the_lines_since_a_moment(store: Store) -> None:
    store.append(
        [
            line("old", at=3600.0),
            line("a", at=7200.0, cost=5),
            line("b", at=7300.0, cost=6, kind="tried", team="ads"),
            line("c", at=10_800.0, cost=9, kind="failed"),
            line("idle/chat/w/1", at=10_900.0, kind="idle", lost_s=60.0, cost=100, role="prefill", prefill_s=0.0),
            line("idle/chat/w/2", at=11_000.0, kind="idle", lost_s=60.0, cost=100, role="prefill", prefill_s=0.0),
        ]
    )
    found = read(store, 7000.0)
    assert (found.currency, found.first, found.last, found.spent, found.requests) == ("USD", 7200.0, 11_000.0, 220, 1)
    assert [(one.team, one.requests, one.cost) for one in found.used] == [("ads", 1, 6), ("search", 1, 5)]
    assert [(one.hour, one.requests, one.prefill_s) for one in found.work] == [(2, 2, 1.0)]
    assert [(one.role, one.kind, one.hour, one.seconds, one.cost) for one in found.unused] == [
        ("prefill", "idle", 3, 120.0, 200)
    ]


def test_facts_survive_the_way_to_another_program(store: Store) -> None:
    store.append([judged(line("a~small", **SMALL), Judged(0.1, "whole")), line("i", kind="idle", role="decode")])
    found = read(store)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Facts) == found


def test_of_too_many_lines_the_newest_count(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_LINES", 3)
    store.append([judged(line(f"{at}~small", at=at, cost=int(at), **SMALL), Judged(0.1, "whole")) for at in (1.0, 2.0)])
    assert not read(store).is_cut
    store.append([judged(line(f"{at}~small", at=at, cost=int(at), **SMALL), Judged(0.1, "whole")) for at in (3.0, 4.0)])
    found = read(store)
    assert (found.is_cut, [leg.cost for leg in found.legs]) == (True, [2, 3, 4])


def test_an_older_ledger_has_no_gains_and_no_pools(tmp_path: Path) -> None:
    import sqlite3  # noqa: PLC0415 - only to make a ledger as it was

    path = tmp_path / "ledger.db"
    connection = sqlite3.connect(path)
    connection.execute(OLD_TABLE)
    tried, shown = line("a~small", kind="tried", at=1.0, **SMALL), line("a~large", at=2.0, **LARGE)
    for entry in (tried, shown, line("i", kind="idle")):
        connection.execute(OLD_INSERT, old_values(entry))
    connection.commit()
    connection.close()
    store = SqliteStore(path, read_only=True)
    assert set(OLD_COLUMNS) == store.columns()
    found = read(store)
    assert [(leg.gain, leg.stage) for leg in found.legs] == [(None, None)]
    assert [one.role for one in found.unused] == [None]
    store.close()


def test_nothing_and_two_currencies_are_one_sentence(store: Store) -> None:
    with pytest.raises(ReportError, match="no line in that time"):
        read(store)
    store.append([line("a"), line("b", currency="EUR")])
    with pytest.raises(ReportError, match="amounts in EUR and USD"):
        read(store)


def test_a_router_tells_an_admin_the_facts(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path, priced=True) as (it, small, _):

            def costs(name: str) -> bytes:
                who = f"Authorization: Bearer key-{name}\r\n"
                return f"GET /admin/costs?format=facts&since=1h HTTP/1.1\r\nHost: t\r\n{who}\r\n".encode()

            reply = await it.ask(costs("root"))
            assert (reply.status, "no line in that time" in reply.json["error"]["message"]) == (400, True)
            await it.ask(auto("anne"))
            small.logprob = DOUBTFUL
            await it.ask(auto("anne"))
            assert (await it.ask(costs("anne"))).status == 403
            reply = await it.ask(costs("root"))
            assert reply.headers["content-type"] == "application/json"
            found = msgspec.json.decode(reply.body, type=Facts)
            assert sorted((leg.onward or "", leg.stage) for leg in found.legs) == [("", "whole"), ("large", "whole")]
            assert found.requests == 2

    run(main())
