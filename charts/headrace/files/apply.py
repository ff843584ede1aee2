# ruff: noqa: INP001, S310, T201 - a script of a pod: it is no module, calls what the chart names, and speaks to a log
"""Applies the resources that a release asks for: runs in a hook, once the release's own objects are there.

Each of them lies in a ConfigMap of the release, which becomes its owner: what leaves the release leaves the cluster
with its ConfigMap, and no right to delete is needed. Needs the standard library only.
"""

import argparse
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PAUSE_S = 1.0
CALL_S = 15.0
REFUSED = {400, 422}
"""Answers that no second try changes; a kind that is not served yet is 404, a right that is not known yet 403."""


class RefusedError(Exception):
    """The API server does not take the resource."""


class UnansweredError(Exception):
    """It may take it later."""


class Server:
    """The API server, as the pod's account sees it."""

    def __init__(self, address: str, account: Path) -> None:
        self._address = address
        self._account = account
        self._tls = ssl.create_default_context(cafile=str(account / "ca.crt"))

    def get(self, path: str) -> dict[str, Any]:
        """Return an object."""
        return self._call("GET", path, None)

    def apply(self, path: str, resource: dict[str, Any]) -> dict[str, Any]:
        """Create or change an object by server-side apply; what others have set of its own fields is set anew."""
        query = "fieldManager=helm&force=true&fieldValidation=Strict"
        return self._call("PATCH", f"{path}?{query}", json.dumps(resource).encode())

    def _call(self, verb: str, path: str, body: bytes | None) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {(self._account / 'token').read_text().strip()}"}
        if body is not None:
            headers["content-type"] = "application/apply-patch+yaml"
        request = urllib.request.Request(f"{self._address}{path}", data=body, headers=headers, method=verb)
        try:
            with urllib.request.urlopen(request, timeout=CALL_S, context=self._tls) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            message = said(error)
            raise (RefusedError if error.code in REFUSED else UnansweredError)(message) from error
        except (OSError, ValueError) as error:
            raise UnansweredError(str(error)) from error
        return found


def said(error: urllib.error.HTTPError) -> str:
    """Return what the API server says of a refusal."""
    text = error.read().decode(errors="replace")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {error.code}: {text[:200]}"


def owned(resource: dict[str, Any], config_map: dict[str, Any]) -> dict[str, Any]:
    """Return the resource with its ConfigMap as owner."""
    metadata = config_map["metadata"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": metadata["name"], "uid": metadata["uid"]}
    return {**resource, "metadata": {**resource["metadata"], "ownerReferences": [owner]}}


def place(resource: dict[str, Any]) -> str:
    """Return the path of a resource at the API server."""
    metadata, kinds = resource["metadata"], f"{resource['kind'].lower()}s"
    return f"/apis/{resource['apiVersion']}/namespaces/{metadata['namespace']}/{kinds}/{metadata['name']}"


def apply(server: Server, name: str) -> str:
    """Apply what the ConfigMap NAMESPACE/NAME holds and return what it was."""
    namespace, _, own = name.partition("/")
    config_map = server.get(f"/api/v1/namespaces/{namespace}/configmaps/{own}")
    resource = json.loads(config_map["data"]["manifest"])
    server.apply(place(resource), owned(resource, config_map))
    return f"{resource['kind']} {namespace}/{resource['metadata']['name']}"


def patiently(server: Server, name: str, deadline_s: float) -> str:
    """Apply it, again and again until the deadline while that may help."""
    while True:
        try:
            return apply(server, name)
        except UnansweredError:
            if time.monotonic() + PAUSE_S > deadline_s:
                raise
        time.sleep(PAUSE_S)


def main() -> int:
    """Apply everything; return 1 where something could not be, 3 where another try would not help."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAMESPACE/CONFIGMAP")
    parser.add_argument("--account", type=Path, default=ACCOUNT, help="folder with the account's token and authority")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for all of it")
    options = parser.parse_args()
    host = os.environ["KUBERNETES_SERVICE_HOST"]
    address = f"https://{f'[{host}]' if ':' in host else host}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    server, deadline_s = Server(address, options.account), time.monotonic() + options.timeout
    status = 0
    for name in options.names:
        try:
            print(f"{patiently(server, name, deadline_s)} is applied", flush=True)
        except (RefusedError, UnansweredError) as error:
            status = max(status, 3 if isinstance(error, RefusedError) else 1)
            print(f"{name} was not applied: {error}", file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
