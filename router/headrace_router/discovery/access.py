"""How to reach a cluster's API server, and as whom: a pod's service account, or a kubeconfig."""

import base64
import binascii
import dataclasses
import os
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from headrace_router.errors import SettingsError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PLUGINS = ("exec", "auth-provider")


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """An API server's address and our credentials; files are read anew for each use, since they are rotated."""

    server: str
    """Such as `https://10.0.0.1:443`, without a slash at its end."""
    authority: Path | bytes | None = None
    """Who vouches for the server: a file, or PEM; None trusts the system's authorities."""
    token: Path | str | None = dataclasses.field(default=None, repr=False)
    """A file, or the bearer token itself."""
    certificate: tuple[Path | bytes, Path | bytes] | None = dataclasses.field(default=None, repr=False)
    """Ours and its key: files, or PEM."""
    verify: bool = True

    def headers(self) -> dict[str, str]:
        """Return the headers that say who we are."""
        if self.token is None:
            return {}
        token = self.token if isinstance(self.token, str) else self.token.read_text().strip()
        return {"authorization": f"Bearer {token}"}

    def context(self) -> ssl.SSLContext:
        """Return what connections to the server are made with."""
        file = self.authority if isinstance(self.authority, Path) else None
        data = self.authority.decode() if isinstance(self.authority, bytes) else None
        context = ssl.create_default_context(cafile=file, cadata=data)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate is not None:
            _load_chain(context, *self.certificate)
        return context


def find_access(environ: Mapping[str, str], kubeconfig: str | None) -> Access:
    """Return the way to the cluster: the kubeconfig given, the pod's own, or the one that KUBECONFIG names.

    Raises:
        SettingsError: there is none, or it cannot be used.
    """
    if kubeconfig is not None:
        return from_kubeconfig(Path(kubeconfig))
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster(environ)
    named = environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    if named:
        return from_kubeconfig(Path(named))
    raise SettingsError(
        "--discovery kubernetes: needs a way to the cluster: run in a pod, set KUBECONFIG, or give --kubeconfig FILE"
    )


def in_cluster(environ: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Access:
    """Return a pod's access by its service account; raise SettingsError where no token is mounted."""
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT") or "443"
    token, authority = folder / "token", folder / "ca.crt"
    for path in (token, authority):
        if not path.is_file():
            raise SettingsError(
                f"--discovery kubernetes: needs {path}, which is not there; "
                "give the pod a service account and do not switch automountServiceAccountToken off"
            )
    host = f"[{host}]" if ":" in host else host
    return Access(f"https://{host}:{port}", authority, token)


def from_kubeconfig(path: Path) -> Access:
    """Return the access of a kubeconfig's current context; raise SettingsError where it cannot be used."""
    try:
        content = yaml.safe_load(path.read_bytes())
        context = _named(content, "contexts", content["current-context"])["context"]
        cluster = _named(content, "clusters", context["cluster"])["cluster"]
        user = _named(content, "users", context["user"]).get("user") or {}
        server = cluster["server"].rstrip("/")
        plugin = next((name for name in _PLUGINS if name in user), None)
        if plugin is not None:
            raise SettingsError(
                f"{path} gets its credentials from {plugin!r}, which the router does not run; use a token"
            )
        return Access(
            server,
            _content(path, cluster, "certificate-authority"),
            _token(path, user),
            _certificate(path, user),
            verify=not cluster.get("insecure-skip-tls-verify", False),
        )
    except OSError as error:
        raise SettingsError(f"the kubeconfig {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, StopIteration, binascii.Error) as error:
        raise SettingsError(f"{path} is no usable kubeconfig: {type(error).__name__} {error}") from error


def _named(content: Mapping[str, Any], group: str, name: str) -> Any:
    return next(entry for entry in content[group] if entry["name"] == name)


def _content(path: Path, entry: Mapping[str, Any], key: str) -> Path | bytes | None:
    """Return what a kubeconfig has as `KEY-data` in base64, or as a file beside it."""
    if entry.get(f"{key}-data"):
        return base64.b64decode(entry[f"{key}-data"], validate=True)
    return path.parent / entry[key] if entry.get(key) else None


def _token(path: Path, user: Mapping[str, Any]) -> Path | str | None:
    if user.get("token"):
        return str(user["token"])
    return path.parent / user["tokenFile"] if user.get("tokenFile") else None


def _certificate(path: Path, user: Mapping[str, Any]) -> tuple[Path | bytes, Path | bytes] | None:
    certificate, key = _content(path, user, "client-certificate"), _content(path, user, "client-key")
    return None if certificate is None or key is None else (certificate, key)


def _load_chain(context: ssl.SSLContext, certificate: Path | bytes, key: Path | bytes) -> None:
    """Load our certificate; the TLS library takes files only, so PEM becomes one for this moment."""
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        context.load_cert_chain(_file(Path(folder, "certificate"), certificate), _file(Path(folder, "key"), key))


def _file(path: Path, part: Path | bytes) -> Path:
    if isinstance(part, Path):
        return part
    path.touch(mode=0o600)
    path.write_bytes(part)
    return path
