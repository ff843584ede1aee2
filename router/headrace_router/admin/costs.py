"""`GET /admin/costs`: a report from the ledger, made on a thread with a reader of its own.

Reports may look at millions of lines; the writer's thread, for which answers wait, never runs one.
"""

import asyncio
import logging
import time
from urllib.parse import parse_qs

import msgspec

from headrace_router.cost.facts import read_facts
from headrace_router.cost.report import ReportError, parse_groups, parse_span, report, to_csv, to_json
from headrace_router.cost.store import StoreError, open_store
from headrace_router.errors import ClientError
from headrace_router.server.answer import JSON, Answer

logger = logging.getLogger(__name__)

DEADLINE_S = 60.0
_CSV = b"content-type: text/csv; charset=utf-8\r\n"
_DEFAULTS = {"by": "tenant,tier,model", "since": "7d", "format": "json"}


def parse_query(query: bytes) -> dict[str, str]:
    """Return what a report is asked for, with defaults; raise ClientError where that is nothing we have."""
    try:
        given = {
            name: values[-1] for name, values in parse_qs(query.decode("ascii"), strict_parsing=bool(query)).items()
        }
    except (UnicodeDecodeError, ValueError) as error:
        raise ClientError(f"The query cannot be read: {error}; write ?by=team&since=7d.") from error
    unknown = next((name for name in given if name not in _DEFAULTS), None)
    if unknown is not None:
        raise ClientError(f"{unknown!r} is nothing to ask for here; there are by, since and format.", param=unknown)
    asked = _DEFAULTS | given
    if asked["format"] not in ("json", "csv", "facts"):
        raise ClientError(f"format is {asked['format']!r}; expected json, csv or facts.", param="format")
    try:
        parse_groups(asked["by"])
        parse_span(asked["since"])
    except ReportError as error:
        raise ClientError(f"{error}.") from error
    return asked


def make(place: str, asked: dict[str, str], now_s: float) -> bytes:
    """Return the report, or what `headrace cost advise` asks for (`facts`), as the bytes of an answer; blocks.

    Args:
        place: of the ledger.
        asked: see `parse_query`.
        now_s: Unix seconds.

    Raises:
        ReportError: there is nothing to advise on.
        StoreError: the ledger cannot be read.
    """
    store = open_store(place, read_only=True)
    since_s = now_s - parse_span(asked["since"])
    try:
        if asked["format"] == "facts":
            return msgspec.json.encode(read_facts(store.query, store.columns(), since_s))
        rows = report(store.query, parse_groups(asked["by"]), since_s)
    finally:
        store.close()
    return to_csv(rows).encode() if asked["format"] == "csv" else to_json(rows)


class Page:
    """One report on its way.

    Args:
        place: of the ledger.
        asked: see `parse_query`.
        answer: to the client.
        fields: header lines of any answer to it.
    """

    def __init__(self, place: str, asked: dict[str, str], answer: Answer, fields: bytes) -> None:
        self._place = place
        self._asked = asked
        self._answer = answer
        self._fields = fields
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                body = await asyncio.to_thread(make, self._place, self._asked, time.time())
        except TimeoutError:
            text = f"The report took longer than {DEADLINE_S:g} s; ask for a shorter time."
            self._answer.error(ClientError(text, status=503, code="report_timeout"), self._fields)
        except ReportError as error:
            self._answer.error(ClientError(f"{error}."), self._fields)
        except StoreError as error:
            self._answer.error(ClientError(f"{error}.", status=503, code="ledger_away"), self._fields)
        except Exception:
            logger.exception("a report failed")
            self._answer.error(ClientError("The report failed; the router's log says why.", status=500), self._fields)
        else:
            self._answer.whole(200, (_CSV if self._asked["format"] == "csv" else JSON) + self._fields, body)

    def pause(self) -> None:
        """One write; there is nothing to pause."""

    def resume(self) -> None:
        """Likewise."""

    def cancel(self) -> None:
        """The client has left; the thread ends by itself."""
        self._task.cancel()

    def sweep(self, now_s: float) -> None:
        """The task keeps its own deadline."""
