"""An API server, asked for a verdict on manifests; nothing is stored."""

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import httpx

from headrace_api.names import GROUP, VERSION

PLURALS: Final = {"LLMDeployment": "llmdeployments", "LLMPool": "llmpools", "LLMRouter": "llmrouters"}
Way = Literal["create", "apply"]


class Server:
    """Asks one API server by dry runs with strict field validation."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def verdict(self, manifest: dict[str, Any], way: Way) -> str | None:
        """Return why the server refuses the manifest, None where it takes it.

        Args:
            manifest: of one of our kinds, with a name.
            way: `create` is what `kubectl create` and the first `kubectl apply` do; `apply` is server-side apply.
        """
        answer = self.ask(manifest, way)
        if answer.is_success:
            return None
        assert answer.status_code in {400, 422, 500}, answer.text
        return str(answer.json()["message"])

    def ask(self, manifest: dict[str, Any], way: Way) -> httpx.Response:
        """Return the server's answer: the object as it would be stored, or a refusal."""
        kind = PLURALS[manifest["kind"]]
        namespace = manifest["metadata"].get("namespace") or "default"
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{kind}"
        query = {"dryRun": "All", "fieldValidation": "Strict"}
        if way == "create":
            return self._client.post(path, params=query, json=manifest)
        return self._client.patch(
            f"{path}/{manifest['metadata']['name']}",
            params=query | {"fieldManager": "test"},
            content=json.dumps(manifest),
            headers={"content-type": "application/apply-patch+yaml"},
        )


@contextmanager
def asking(kubeconfig: Path) -> Iterator[Server]:
    """Connect to the server that the kubeconfig of a test cluster names."""
    settings = json.loads(kubeconfig.read_text())
    cluster, user = settings["clusters"][0]["cluster"], settings["users"][0]["user"]
    with httpx.Client(
        base_url=cluster["server"],
        verify=ssl.create_default_context(cafile=cluster["certificate-authority"]),
        headers={"authorization": f"Bearer {user['token']}"},
        timeout=30.0,
    ) as client:
        yield Server(client)
