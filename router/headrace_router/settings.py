"""The router's settings: parsed once at the entry, passed down, never read from anywhere else."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace_api.resources.router import RouterSpec, Tier
from headrace_router.discovery.source import parse_source
from headrace_router.errors import SettingsError

_UNPRICED = RouterSpec(tiers=(Tier(name="any", deployment="any"),))


class RouterSettings(BaseModel):
    """Everything the router can be told; the docstring below a field is its manual and its help text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port to listen on; 0 takes a free one."""
    discovery: str
    """Where workers are listed: `file:PATH[,PATH…]`, state files as `headrace up --state` writes them, or
    `kubernetes:NAMESPACE/NAME[,NAMESPACE/NAME…]`, deployments whose pods are watched, or `none`: all tiers are
    endpoints."""
    kubeconfig: str | None = None
    """The way to the cluster for `kubernetes:`; default: the pod's service account, outside of pods KUBECONFIG."""
    ready_file: str | None = None
    """Where to write `{"url": …, "pid": …}` once the router listens."""
    spec: str | None = None
    """The `spec` of the LLMRouter as JSON, or a file with it: tiers with their prices, currency, budgets. Default: no
    prices."""
    keys: str | None = None
    """File of API keys; requests without one of them are refused with 401. Default: everybody may send requests."""
    ledger: str | None = None
    """Where costs are written down: `sqlite:PATH`, or `postgres:PATH`, a file with a connection string."""
    gate: str | None = None
    """File of the model that judges answers of cheap tiers; the spec's `cascade` says what for."""
    predictor: str | None = None
    """File of the model that judges prompts."""
    unused_portion_s: Annotated[float, Field(gt=0)] = 60.0
    """So many GPU-seconds of a worker that no request used (idle, or lost to answers nobody got) make one line in the
    ledger; workers are asked as often."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 32 * 1024 * 1024
    """Largest request body; a larger one is answered with 413."""
    max_header_bytes: Annotated[int, Field(ge=1024)] = 32 * 1024
    """Largest request head (request line and headers); a larger one is answered with 431."""
    hold_deadline_s: Annotated[float, Field(ge=0)] = 300.0
    """How long a new request waits while its model has no worker (none runs yet, or none can be reached)."""
    hold_requests: Annotated[int, Field(ge=0)] = 64
    """Most requests of one model that wait so; one more is answered with 503 at once."""
    replay_deadline_s: Annotated[float, Field(ge=0)] = 60.0
    """How long a request whose worker died waits for another one before it fails."""
    max_attempts: Annotated[int, Field(ge=1)] = 5
    """Most workers that may fail one request before it fails itself."""
    connect_deadline_s: Annotated[float, Field(gt=0)] = 5.0
    """How long connecting to a worker may take."""
    silence_deadline_s: Annotated[float, Field(gt=0)] = 600.0
    """A worker that sends no byte of an answer for this long is given up and the request goes to another."""
    read_deadline_s: Annotated[float, Field(gt=0)] = 30.0
    """A client that has begun a request gets 408 when it sends nothing for this long, or no whole head in this time."""
    idle_deadline_s: Annotated[float, Field(gt=0)] = 120.0
    """Connections, of clients and to workers, are closed after this long without a request."""
    stall_deadline_s: Annotated[float, Field(gt=0)] = 300.0
    """A client that reads nothing of its answer for this long is disconnected."""
    drain_deadline_s: Annotated[float, Field(ge=0)] = 30.0
    """After SIGTERM or SIGINT, how long running requests may take to finish."""
    prefix_entries: Annotated[int, Field(ge=0)] = 200_000
    """Text chunks that the prefix index remembers (about 200 bytes each)."""
    prefill_ms_per_kib: Annotated[float, Field(ge=0)] = 25.0
    """Score: milliseconds to prefill 1 KiB of prompt text (about 256 tokens)."""
    transfer_ms_per_kib: Annotated[float, Field(ge=0)] = 3.0
    """Score: milliseconds to hand the KV of 1 KiB of prompt text from prefill to decode."""
    stream_ms: Annotated[float, Field(ge=0)] = 5.0
    """Score: milliseconds that one running request costs the next one on the same worker."""
    pressure_ms_per_kib: Annotated[float, Field(ge=0)] = 0.5
    """Score: milliseconds for each KiB of prompt text whose KV a worker holds for running requests."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe messages to log."""


def read_spec(settings: RouterSettings) -> RouterSpec | None:
    """Return what the spec file says, or one without prices where only keys or a ledger are given; None without all.

    Raises:
        SettingsError: the file cannot be read, or says nonsense.
    """
    if settings.spec is None:
        return None if settings.keys is None and settings.ledger is None else _UNPRICED
    try:
        given = settings.spec if settings.spec.startswith("{") else Path(settings.spec).read_bytes()
        return RouterSpec.model_validate_json(given, strict=False)
    except OSError as error:
        raise SettingsError(f"--spec {settings.spec} cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"--spec: {place or 'the whole'}: {first['msg']}") from error


def build_parser() -> argparse.ArgumentParser:
    """Return a parser with one flag per field, the field's docstring as help."""
    parser = argparse.ArgumentParser(
        prog="headrace-router",
        description="OpenAI-compatible router in front of prefill and decode workers.",
        allow_abbrev=False,
    )
    for name, field in RouterSettings.model_fields.items():
        text = (field.description or "").replace("`", "").replace("%", "%%")
        if not field.is_required() and field.default is not None:
            text += f" Default: {field.default}."
        flag = "--" + name.removesuffix("_s").replace("_", "-")
        # No type or choices here: pydantic judges the value, and one place words the complaint.
        parser.add_argument(flag, dest=name, required=field.is_required(), metavar="VALUE", help=text)
    return parser


def parse_settings(arguments: Sequence[str]) -> RouterSettings:
    """Return the settings in the command line; raise SettingsError with one sentence where a value is wrong."""
    given: dict[str, Any] = {
        name: value for name, value in vars(build_parser().parse_args(arguments)).items() if value is not None
    }
    try:
        settings = RouterSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + str(first["loc"][0]).removesuffix("_s").replace("_", "-")
        raise SettingsError(f"{flag} is {first['input']!r}: {first['msg']}") from error
    parse_source(settings.discovery)
    return settings
