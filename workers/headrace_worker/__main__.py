"""`headrace-worker`: settings from a file and flags, then the front."""

import headrace_worker.early  # noqa: F401  # isort: skip  # a signal during the imports below counts
import argparse
import asyncio
import difflib
import json
import logging
import os
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

from prometheus_client import disable_created_metrics
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from headrace_worker.errors import SettingsError
from headrace_worker.server.front import EXIT_NEVER, listen, serve
from headrace_worker.settings import WorkerSettings

SECRET_VARIABLE = "HEADRACE_SECRET"  # noqa: S105 - the name of a variable
_NO_FLAG = ("secret",)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise instead of printing a page of usage."""
        raise SettingsError(f"{message[:1].upper()}{message[1:]}. See --help.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the worker; return its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for chatty in ("httpx", "httpcore", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    disable_created_metrics()  # type: ignore[no-untyped-call]  # as shipped; births of counters only double the lines
    try:
        settings = read_settings(sys.argv[1:] if arguments is None else arguments)
        listener = listen(settings)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_NEVER
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(serve(settings, listener))


def read_settings(arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> WorkerSettings:
    """Return the settings of the command line; flags win over the file, and the file over the environment's secret.

    Raises:
        SettingsError: one sentence with the first thing that is wrong, and where it stands.
    """
    environ = os.environ if environ is None else environ
    parser = _parser()
    known, rest = parser.parse_known_args(arguments)
    if rest:
        flags = [action.option_strings[-1] for action in parser._actions if action.option_strings]  # noqa: SLF001  # argparse has no public list
        raise SettingsError(f"{rest[0]!r} is no flag of the worker{_nearest(rest[0].partition('=')[0], flags)}")
    values = vars(known)
    file = values.pop("settings", None)
    given = {} if file is None else _read_file(Path(file))
    if environ.get(SECRET_VARIABLE):
        given.setdefault("secret", environ[SECRET_VARIABLE])
    try:
        return WorkerSettings.model_validate({**given, **values})
    except ValidationError as error:
        raise SettingsError(_sentence(error, values, file)) from None


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("headrace-worker", description="One worker of Headrace.", allow_abbrev=False)
    parser.add_argument("--settings", metavar="FILE", default=argparse.SUPPRESS, help="JSON file with these settings")
    for name, field in WorkerSettings.model_fields.items():
        if name in _NO_FLAG:
            continue
        text = (field.description or "").replace("\n", " ").replace("%", "%%")
        default = "" if field.is_required() or field.default_factory else f" (default: {field.default!r})"
        parser.add_argument(
            _flag(name), dest=name, metavar=_metavar(field), default=argparse.SUPPRESS, help=text + default
        )
    return parser


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _metavar(field: FieldInfo) -> str:
    """Return what a flag's value looks like: the words it may be, or its type."""
    kind = field.annotation
    if typing.get_origin(kind) is Literal:
        return "{" + ",".join(typing.get_args(kind)) + "}"
    if isinstance(kind, types.UnionType):
        kind = next(one for one in typing.get_args(kind) if one is not types.NoneType)
    kind = typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind
    return {int: "N", float: "SECONDS"}.get(kind, "TEXT") if isinstance(kind, type) else "TEXT"


def _read_file(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise SettingsError(f"The settings file {path} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise SettingsError(f"The settings file {path} holds no JSON object.")
    return value


def _sentence(error: ValidationError, flags: dict[str, Any], file: str | None) -> str:
    """Return what is wrong first, with the place where it stands."""
    problem = error.errors(include_url=False)[0]
    name = str(problem["loc"][0]) if problem["loc"] else ""
    place = _flag(name) if name in flags or file is None else f"{file}: {name}"
    if problem["type"] == "missing":
        return f"{place} is missing; every worker needs it. See --help."
    if problem["type"] == "extra_forbidden":
        return f"{place} is no setting of the worker{_nearest(name, list(WorkerSettings.model_fields))}"
    found = "" if name == "secret" else f" is {problem['input']!r}"
    told = str(problem["ctx"]["error"]) if problem["type"] == "value_error" else problem["msg"]
    return f"{place}{found}: {told[:1].lower()}{told[1:]}."


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"; did you mean {close[0]}?" if close else "; see --help."


def _is_news(record: logging.LogRecord) -> bool:
    """Drop the server's complaint about answers that are cut on purpose, so that routers replay them."""
    return "without completing response" not in record.getMessage()


def _loop_factory() -> Any:
    """Return uvloop's factory, or None for the standard loop where uvloop is absent."""
    try:
        import uvloop  # noqa: PLC0415  # not there on every system
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main())
