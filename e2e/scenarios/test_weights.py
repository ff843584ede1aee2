"""Weights fetched by a Job from the package index, as the Secret `headrace-fetch` tells it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from e2e.cluster.errors import StartError
from e2e.scenarios.space import wait_for
from e2e.scenarios.traffic import ask, client_pod, problems
from e2e.scenarios.world import manifest

from headrace_worker.fetch import cache_root
from headrace_worker.fetch.index import index_settings

if TYPE_CHECKING:
    from e2e.scenarios.space import Object, Space
    from e2e.scenarios.world import World

pytestmark = pytest.mark.usefixtures("operator")

NAME = "fetched"
SECRET: Final = "headrace-fetch"
FOLDER: Final = "/etc/headrace/fetch"
AUTHORITIES: Final = "authorities.pem"
REACH: Final = "import sys, urllib.request as u; u.urlopen(u.Request(sys.argv[1], method='HEAD'), timeout=20)"


def test_a_job_fetches_the_weights_into_an_empty_volume_once(world: World, space: Space) -> None:
    world.cluster.refill_volumes(cache_root(), ())
    secret = fetch_secret()
    if not reaches(space, world.images.router, secret["stringData"]["PIP_INDEX_URL"]):
        pytest.skip("pods of this cluster do not reach the package index")
    space.apply(secret, manifest(NAME))
    space.wait_ready(NAME, timeout_s=400)

    assert problems(ask(space, world.images.router, NAME, timeout_s=120, count=1)) == []
    (job,) = space.listed("jobs", f"serving.headrace.dev/deployment={NAME}")
    assert job["status"]["succeeded"] == 1
    space.patch(NAME, {"spec": {"engine": {"chunkTokens": 64}}})
    space.wait_ready(NAME, timeout_s=240)
    assert [one["metadata"]["uid"] for one in space.listed("jobs")] == [job["metadata"]["uid"]]


def fetch_secret() -> Object:
    """Return what downloads need on this machine, as the Job takes it: variables, and a file of authorities."""
    index = index_settings(os.environ)
    values = {"PIP_INDEX_URL": index.urls[0]}
    if index.urls[1:]:
        values["PIP_EXTRA_INDEX_URL"] = " ".join(index.urls[1:])
    if index.certificates is not None:
        values |= {"PIP_CERT": f"{FOLDER}/{AUTHORITIES}", AUTHORITIES: Path(index.certificates).read_text()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "stringData": values}


def reaches(space: Space, image: str, url: str) -> bool:
    """Say whether a pod can open an address; one that does not trust who answers has reached it too."""
    program = f"import ssl; ssl._create_default_https_context = ssl._create_unverified_context; {REACH}"
    space.apply(client_pod("reach", image, ["python", "-c", program, url]))

    def phase() -> str | None:
        pod = space.find("pod", "reach")
        found = None if pod is None else str(pod["status"].get("phase"))
        return found if found in {"Succeeded", "Failed"} else None

    try:
        return wait_for(phase, 60, "The pod did not end") == "Succeeded"
    except StartError:
        return False
    finally:
        space.delete("pod", "reach")
