"""`headrace up FILE…`: serve the deployments of some files from this machine, until Ctrl-C."""

import argparse
import asyncio
import contextlib
import json
import signal
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from headrace_api.resources import LLMDeployment, LLMRouter, Resource
from headrace_api.resources.errors import QuantityError
from headrace_api.resources.quantity import parse_duration
from headrace_cli import models
from headrace_cli.display import Display
from headrace_cli.errors import RuntimeFailure, UsageError
from headrace_cli.files import load
from headrace_cli.serve import serve
from headrace_operator.desired import Desired
from headrace_operator.errors import CrashLoopError, PlanError
from headrace_operator.local.machine import count_processors, port_is_free
from headrace_operator.local.settings import LocalSettings
from headrace_operator.plan import plan


def add_parser(commands: Any) -> None:
    """Add `up` to the commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "up",
        help="serve the deployments of files from this machine",
        description="Download the models, start workers and a router, try a real hand-off, and serve until Ctrl-C.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="YAML file with LLMDeployment and LLMRouter resources")
    parser.add_argument("--host", default="127.0.0.1", help="address of the router (default: %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=8080, help="port of the router; 0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--state", type=Path, metavar="FILE", help="write addresses and process ids as JSON once all is ready"
    )
    parser.add_argument("--logs", action="store_true", help="print what workers and router log")
    parser.add_argument(
        "--threads",
        type=_threads,
        metavar="N",
        help="compute threads of each worker (default: the processors shared evenly)",
    )
    parser.add_argument(
        "--drain",
        type=_duration,
        default=30.0,
        metavar="TIME",
        help="how long running requests may take after Ctrl-C, such as 90s or 5m (default: 30s)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check everything that can be checked, fetch the models, and serve; return the exit status."""
    resources = load(options.files)
    try:
        desired = plan(resources, processors=count_processors(), threads=options.threads)
    except PlanError as error:
        raise UsageError(str(error)) from error
    _check_address(options.host, options.port)
    _check_state(options.state)
    with tempfile.TemporaryDirectory(prefix="headrace-", ignore_cleanup_errors=True) as folder:
        settings = LocalSettings(
            Path(folder),
            host=options.host,
            port=options.port,
            state_file=options.state,
            drain_deadline_s=options.drain,
        )
        with Display() as display:
            for text in remarks(resources):
                display.line(text)
            with _sigterm_as_interrupt():
                desired = models.fetch(desired, display, models.resolve)
            return bring_up(desired, settings, display, follow=options.logs, model=free_choice(resources))


def bring_up(
    desired: Desired, settings: LocalSettings, display: Display, *, follow: bool, model: str | None = None
) -> int:
    """Serve models that are on this machine; return the exit status.

    Args:
        desired: what to serve.
        settings: of this machine.
        display: for lines and progress.
        follow: whether to print what workers and router log.
        model: for the command to try; default: the first deployment.
    """
    try:
        return asyncio.run(serve(desired, settings, display, partial(welcome, model=model), follow=follow))
    except CrashLoopError as error:
        raise RuntimeFailure(str(error)) from error


def free_choice(resources: Sequence[Resource]) -> str | None:
    """Return the model that leaves the choice to the router, where it goes through several tiers."""
    chooses = any(isinstance(one, LLMRouter) and one.spec.chooses for one in resources)
    return "auto" if chooses else None


def welcome(url: str, deployments: Sequence[str], model: str | None = None) -> list[str]:
    """Return what a user sees once all is ready: the address and a command to try it."""
    body = {
        "model": model or (deployments[0] if deployments else "auto"),
        "stream": True,
        "messages": [{"role": "user", "content": "Why do rivers meander?"}],
    }
    return [
        "",
        f"Serving {', '.join(deployments) or 'endpoints of others'} at {url}/v1",
        "",
        f"  curl -N {url}/v1/chat/completions -H 'content-type: application/json' -d '{json.dumps(body)}'",
        "",
        "Ctrl-C lets running requests finish and ends; a second one ends at once.",
    ]


def remarks(resources: Sequence[Resource]) -> list[str]:
    """Return what a user should know of the files before anything is started."""
    scaled = [one for one in resources if isinstance(one, LLMDeployment) and one.spec.scaling is not None]
    return [
        f"LLMDeployment {one.metadata.name}: scaling is for clusters and ignored here; replicas sets the numbers"
        for one in scaled
    ]


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Leave a download through the same door on SIGTERM as on Ctrl-C, so that folders are removed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_address(host: str, port: int) -> None:
    """Refuse an address before the user waits for a download."""
    try:
        free = port_is_free(host, port)
    except OSError as error:
        raise UsageError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
    if not free:
        raise UsageError(f"port {port} on {host} is in use; stop what listens there, or choose another with --port")


def _check_state(path: Path | None) -> None:
    """Refuse a place for the state file that cannot be written, and remove what an earlier run left there."""
    if path is None:
        return
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"--state {path}: must be a file in a folder that exists")
    try:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
    except OSError as error:
        raise UsageError(f"--state {path}: cannot be written: {error.strerror or error}") from error


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; expected a number from 0 to 65535")
    return int(text)


def _threads(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of threads; expected 1 to 1024")
    return int(text)


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except QuantityError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
