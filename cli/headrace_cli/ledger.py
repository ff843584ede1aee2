"""Where commands read the ledger: from a router, as an admin, or from the store itself."""

import argparse
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import httpx
import msgspec

from headrace_cli.errors import RuntimeFailure
from headrace_router.cost.report import ReportError
from headrace_router.cost.store import Store, StoreError, open_store

KEY_VARIABLE: Final = "HEADRACE_API_KEY"
_DEADLINE_S: Final = 70.0
_Found = TypeVar("_Found")


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the ledger is, and since when it counts."""
    parser.add_argument("--since", default="7d", metavar="SPAN", help="such as 30m, 24h, 7d, 2w; default: 7d")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", default="http://127.0.0.1:8080", help="of the router; default: %(default)s")
    where.add_argument("--ledger", metavar="PLACE", help="sqlite:PATH or postgres:PATH, as the router has it")


def beside(place: str, read: Callable[[Store, float], _Found]) -> _Found:
    """Return what `read` makes of the open store, which no router is asked for, and the time now in Unix seconds."""
    try:
        store = open_store(place, read_only=True)
        try:
            return read(store, time.time())
        finally:
            store.close()
    except (StoreError, ReportError) as error:
        raise RuntimeFailure(str(error)) from error


def asked(url: str, params: Mapping[str, str]) -> bytes:
    """Return what a router's `/admin/costs` answers; raise RuntimeFailure with what it says against it."""
    key = os.environ.get(KEY_VARIABLE)
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    place = f"{url.rstrip('/')}/admin/costs"
    try:
        answer = httpx.get(place, params=dict(params), headers=headers, timeout=_DEADLINE_S, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RuntimeFailure(f"the router at {url} cannot be asked: {error}; give --url or --ledger") from error
    if answer.status_code != 200:
        raise RuntimeFailure(f"the router at {url} refuses: {_said(answer)}")
    if "json" not in answer.headers.get("content-type", ""):
        raise RuntimeFailure(f"what answers at {url} is no router of Headrace: it tells no costs; give its --url")
    return answer.content


def _said(answer: httpx.Response) -> str:
    try:
        body: Any = msgspec.json.decode(answer.content)
        return str(body["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"status {answer.status_code}"
