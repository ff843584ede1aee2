"""Tells Prometheus which pods of its namespace there are, as a second container of its pod.

Debian's Prometheus is built without its own discovery of Kubernetes. The labels are those that it would give, as far as
they are used. Runs in any image with Python, so that it takes nothing but the standard library.
"""

import http.server
import json
import ssl
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

PORT: Final = 9091

_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_META: Final = "__meta_kubernetes_"
_DEADLINE_S: Final = 5


def targets(pod: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a target for each port of a pod that has an address."""
    metadata, address = pod["metadata"], pod["status"].get("podIP")
    if address is None:
        return
    labels = {f"pod_label_{_spelled(name)}": value for name, value in metadata.get("labels", {}).items()}
    labels |= {"namespace": metadata["namespace"], "pod_name": metadata["name"], "pod_phase": pod["status"]["phase"]}
    for container in pod["spec"]["containers"]:
        for port in container.get("ports", ()):
            own = {"pod_container_name": container["name"], "pod_container_port_name": port.get("name", "")}
            told = {_META + name: value for name, value in {**labels, **own}.items()}
            yield {"targets": [f"{address}:{port['containerPort']}"], "labels": told}


def _spelled(label: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in label)


def _pods() -> list[dict[str, Any]]:
    """Return the pods of this pod's namespace, as the API server knows them."""
    namespace, token = ((_ACCOUNT / name).read_text() for name in ("namespace", "token"))
    url = f"https://kubernetes.default.svc/api/v1/namespaces/{namespace}/pods"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    trusted = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, timeout=_DEADLINE_S, context=trusted) as answer:
        items: list[dict[str, Any]] = json.load(answer)["items"]
        return items


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps([target for pod in _pods() for target in targets(pod)]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("127.0.0.1", PORT), _Handler).serve_forever()
