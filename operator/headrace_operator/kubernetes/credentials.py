"""Who the operator is to the API server: where it is, whom to trust, what to show.

The official client's configuration loaders do the reading (kubeconfig with all its ways to log in, service accounts);
only its calls are not used on the hot path, see `session`.
"""

import os
import ssl
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import kopf
from kubernetes.aio import config
from kubernetes.aio.client import Configuration

from headrace_operator.kubernetes.errors import CredentialsError

_loaders: Any = config
"""The client calls itself typed, and these functions are not."""
_RECHECK_S: Final = 30.0
"""How long a token is shown before the file it came from is asked again; the kubelet rotates it long before its end."""
_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Credentials:
    """The way to one API server.

    Args:
        configuration: of the official client, loaded.
        namespace: of the service account or of the kubeconfig's context.
        reload: Loads the configuration anew, for a kubeconfig whose tokens come from a program or a file.
    """

    def __init__(self, configuration: Any, namespace: str, reload: Any = None) -> None:
        self._configuration = configuration
        self._reload = reload
        self._header: str | None = None
        self._checked = -_RECHECK_S
        self.server: str = configuration.host
        self.namespace = namespace
        self.tls = _tls(configuration)

    @property
    def authority(self) -> str | None:
        """Path of the file with the authority that signs the API server's certificate."""
        path: str | None = self._configuration.ssl_ca_cert
        return path

    @property
    def proxy(self) -> str | None:
        """The proxy that the kubeconfig names for this cluster."""
        path: str | None = self._configuration.proxy
        return path

    @property
    def server_name(self) -> str | None:
        """Name to find in the server's certificate where it is not that of the address."""
        name: str | None = self._configuration.tls_server_name
        return name

    async def authorization(self) -> str | None:
        """Return the header that says who calls; None where a client certificate does."""
        now = time.monotonic()
        if now - self._checked >= _RECHECK_S:
            self._checked = now
            self._header = await self._read()
        return self._header

    async def refresh(self) -> None:
        """Forget the token, since the server refused it: the next call shows what is there then."""
        self._checked = -_RECHECK_S
        if self._reload is not None:
            await self._reload(self._configuration)

    def for_kopf(self, expiration: datetime) -> kopf.ConnectionInfo:
        """Return the same credentials for kopf's own client, which asks again after `expiration`."""
        scheme, _, token = (self._header or "").partition(" ")
        configuration = self._configuration
        return kopf.ConnectionInfo(
            server=self.server,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            scheme=scheme or None,
            token=token or None,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            proxy_url=configuration.proxy,
            default_namespace=self.namespace,
            expiration=expiration,
        )

    async def _read(self) -> str | None:
        token: str | None = await self._configuration.get_api_key_with_prefix("BearerToken")
        if token:
            scheme, _, rest = token.partition(" ")
            # A token file may end with a line break, which a header must not hold.
            return f"Bearer {rest.strip()}" if scheme.lower() == "bearer" else token.strip()
        if self._configuration.username and self._configuration.password:
            basic: str = self._configuration.get_basic_auth_token()
            return basic
        return None


async def load(kubeconfig: str | None = None) -> Credentials:
    """Return the way to the cluster: the service account in a pod, else the kubeconfig.

    Args:
        kubeconfig: path; None takes `$KUBECONFIG` or the file in the home folder where there is no service account.

    Raises:
        CredentialsError: there is none of them, or it cannot be read.
    """
    try:
        if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            configuration = _fresh()
            _loaders.load_incluster_config(client_configuration=configuration)
            return Credentials(configuration, _NAMESPACE_FILE.read_text().strip())
        return await _from_kubeconfig(_expand(kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"))
    except (config.ConfigException, OSError, ValueError, KeyError, TypeError) as error:
        raise CredentialsError(
            f"No way to a Kubernetes API server: {str(error) or type(error).__name__}. "
            "Run in a pod with a service account, set KUBECONFIG, or pass --kubeconfig."
        ) from error


def _expand(paths: str) -> str:
    """Return the path, or the several that `$KUBECONFIG` may hold, with the home folder filled in."""
    return os.pathsep.join(str(Path(path).expanduser()) for path in paths.split(os.pathsep))


async def _from_kubeconfig(path: str) -> Credentials:
    async def load_into(configuration: Any) -> None:
        await _loaders.load_kube_config(config_file=path, client_configuration=configuration, persist_config=False)

    configuration = _fresh()
    await load_into(configuration)
    _, context = _loaders.list_kube_config_contexts(path)
    return Credentials(configuration, context["context"].get("namespace", "default"), load_into)


def _fresh() -> Any:
    return Configuration()


def _tls(configuration: Any) -> ssl.SSLContext | None:
    if not configuration.host.startswith("https:"):
        return None
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
