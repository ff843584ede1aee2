"""The operator's settings: parsed once at the entry, passed down, never read from anywhere else."""

import argparse
import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace_operator.errors import SettingsError
from headrace_operator.objects import Site

PREFIX: Final = "HEADRACE_OPERATOR_"
"""Each setting may stand in an environment variable of this prefix; a flag wins."""


def _identity() -> str:
    """Return a name that no other process has, even one of the same pod after a restart."""
    return f"{socket.gethostname()}-{secrets.token_hex(4)}"


class OperatorSettings(BaseModel):
    """Everything the operator can be told; the docstring below a field is its manual and its help text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    namespaces: str = ""
    """Namespaces to serve, separated by commas; empty: all of them (cluster mode)."""
    worker_image: str = "headrace-worker:latest"
    """Image of worker pods and of the Job that fetches weights."""
    router_image: str = "headrace-router:latest"
    """Image of router pods."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """When images are pulled."""
    image_pull_secrets: str = ""
    """Secrets with the registry's credentials, separated by commas; they must be in the namespaces of the resources."""
    fetch_secret: str = "headrace-fetch"  # noqa: S105 - a name, no password
    """Secret in a resource's namespace with what downloads need there: index address, proxy, authorities."""
    operator_namespace: str = ""
    """Where the operator runs and its Lease is kept. Left out: the namespace of the service account or kubeconfig."""
    operator_app: str = "headrace-operator"
    """Label app.kubernetes.io/name of the operator's own pods: workers let them in to ask how they are."""
    gpus: Literal["auto", "yes", "no"] = "auto"
    """Whether nodes offer nvidia.com/gpu; auto looks at the nodes, which takes the right to list them."""
    key_file: str | None = None
    """File with the installation's own secret, at least 16 bytes, the same for all its operators. From it the secrets
    of deployments are derived. Left out: a new one at each start, and blocks that a dead prefill worker held before it
    stay in quarantine until their decode worker restarts."""
    lease_name: str = "headrace-operator"
    """Name of the Lease that makes one of several operators act."""
    identity: str = Field(default_factory=_identity)
    """Name of this process in the Lease; no two may have the same. Left out: host name and random letters."""
    lease_duration_s: Annotated[float, Field(ge=3)] = 15.0
    """After this long without a renewal another operator may act; this one stops a third of it earlier."""
    host: str = "0.0.0.0"  # noqa: S104 - a pod's own network
    """Address of /healthz and /metrics."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port of /healthz and /metrics; 0 takes a free one."""
    scaler_port: Annotated[int, Field(ge=0, le=65535)] = 9090
    """Port on which the leading operator answers KEDA (gRPC); 0 takes a free one."""
    scaler_service: str = "headrace-operator-scaler"
    """Name of the Service, without selector, by which KEDA reaches the operator that leads."""
    scaling_interval_s: Annotated[float, Field(ge=1)] = 5.0
    """How often the load of workers is read."""
    pod: str = ""
    """Name of the operator's own pod. Left out, with the next two: KEDA is not led to this operator."""
    pod_uid: str = ""
    """UID of that pod."""
    pod_ip: str = ""
    """Address of that pod."""
    kubeconfig: str | None = None
    """Path of a kubeconfig. Left out: the service account in a pod, else KUBECONFIG or the file in the home folder."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe messages to log."""

    @property
    def served(self) -> tuple[str, ...]:
        """The namespaces to serve; empty: all."""
        return _split(self.namespaces)

    def key(self) -> bytes:
        """Return the installation's secret; raise SettingsError where the file cannot be read or holds too little."""
        if self.key_file is None:
            return secrets.token_bytes(32)
        try:
            key = Path(self.key_file).read_bytes().strip()
        except OSError as error:
            raise SettingsError(f"--key-file is {self.key_file!r}, which cannot be read: {error.strerror}") from error
        if len(key) < 16:
            raise SettingsError(f"--key-file is {self.key_file!r}, which holds {len(key)} bytes; it needs at least 16")
        return key

    def site(self, namespace: str) -> Site:
        """Return what builders are told; `namespace` is the operator's own."""
        return Site(
            worker_image=self.worker_image,
            router_image=self.router_image,
            image_pull_policy=self.image_pull_policy,
            image_pull_secrets=_split(self.image_pull_secrets),
            operator_namespace=namespace,
            operator_labels={"app.kubernetes.io/name": self.operator_app},
            nvidia=self.gpus == "yes",
            fetch_secret=self.fetch_secret,
            scaler_address=f"{self.scaler_service}.{namespace}.svc:{self.scaler_port}",
            scaler_url=f"http://{self.scaler_service}.{namespace}.svc:{self.port}",
        )


def build_parser() -> argparse.ArgumentParser:
    """Return a parser with one flag per field, the field's docstring as help."""
    parser = argparse.ArgumentParser(
        prog="python -m headrace_operator",
        description="The operator: turns LLMDeployments and LLMRouters into running workers and routers.",
        epilog=f"Each flag may stand in an environment variable, as {PREFIX}WORKER_IMAGE.",
        allow_abbrev=False,
    )
    for name, field in OperatorSettings.model_fields.items():
        text = (field.description or "").replace("%", "%%")
        if field.default_factory is None and field.default not in {None, ""}:
            text += f" Default: {field.default}."
        # No type or choices here: pydantic judges the value, and one place words the complaint.
        parser.add_argument(_flag(name), dest=name, metavar="VALUE", help=text)
    return parser


def parse_settings(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> OperatorSettings:
    """Return the settings of flags and environment; raise SettingsError with one sentence where a value is wrong."""
    known = {f"{PREFIX}{name.removesuffix('_s').upper()}": name for name in OperatorSettings.model_fields}
    given: dict[str, Any] = {known[name]: value for name, value in environment.items() if name in known and value}
    unknown = [name for name in environment if name.startswith(PREFIX) and name not in known]
    if unknown:
        raise SettingsError(f"{unknown[0]} is set, which is no setting; there are {', '.join(sorted(known))}")
    parsed = vars(build_parser().parse_args(arguments))
    given |= {name: value for name, value in parsed.items() if value is not None}
    try:
        return OperatorSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(f"{_flag(str(first['loc'][0]))} is {first['input']!r}: {first['msg']}") from error


def _flag(name: str) -> str:
    return "--" + name.removesuffix("_s").replace("_", "-")


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
