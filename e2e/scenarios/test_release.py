"""A release's life on a cluster with real pods: an upgrade and a rollback under load, and its end."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING, Final

import pytest
from e2e.cluster.errors import StartError
from e2e.images.load import tag_images
from e2e.scenarios.helm import Release
from e2e.scenarios.install import NAME as OPERATOR
from e2e.scenarios.install import NAMESPACE, RESOURCES, namespace_object, values
from e2e.scenarios.inventory import inventory, wait_left
from e2e.scenarios.space import wait_for
from e2e.scenarios.traffic import ask, problems, start
from e2e.scenarios.world import chart_version, manifest, tell

if TYPE_CHECKING:
    from e2e.scenarios.space import Space
    from e2e.scenarios.world import World

NAME: Final = "upgraded"
NEXT: Final = "99.0.0"
PARTS: Final = {"operator", "router", "worker"}
OF_EVERY_NAMESPACE: Final = (("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default"))
"""What Kubernetes puts into each namespace."""
TASKS: Final = "app.kubernetes.io/name=headrace-task"


def test_an_upgrade_and_a_rollback_under_load_fail_no_request(world: World, operator: Space, space: Space) -> None:
    release, present = Release(world.helm, NAMESPACE), chart_version()
    tag_images(world.cluster, astuple(world.images), NEXT)
    newer = world.helm.pack(NEXT)
    space.apply(manifest(NAME))
    space.wait_ready(NAME, timeout_s=300)
    client = start(space, world.images.router, NAME, concurrency=2, tokens=48, seconds=900)
    client.wait_answers(2, timeout_s=120)

    release.upgrade(newer, values())
    wait_version(operator, space, NEXT)
    tell(f"everything is at {NEXT}")
    client.wait_answers(len(client.answers()) + 2, timeout_s=120)
    release.rollback()
    wait_version(operator, space, present)
    tell(f"everything is at {present} again")
    client.wait_answers(len(client.answers()) + 2, timeout_s=120)
    client.stop()
    answers = client.end(timeout_s=200)

    tell(f"{len(answers)} requests were answered during the upgrade and the rollback")
    assert problems(answers) == []


@pytest.mark.usefixtures("bare")
def test_an_uninstall_leaves_what_it_promised_to_keep_and_nothing_else(world: World, space: Space) -> None:
    before = inventory(world.kubectl)
    released = manifest("released", disaggregation="never")
    entry = {"name": "released", "namespace": space.name, "spec": released["spec"]}
    release = Release(world.helm, NAMESPACE)
    world.kubectl.apply([namespace_object(NAMESPACE)])
    release.install(world.chart, values(deployments=[entry]))
    space.apply(manifest("theirs", disaggregation="never"))
    for name in ("released", "theirs"):
        space.wait_ready(name, timeout_s=300)
    assert "released answered in" in release.test()

    release.uninstall()
    space.wait_gone("released", timeout_s=120)
    assert problems(ask(space, world.images.router, "theirs", timeout_s=120, count=1)) == []
    world.kubectl("--namespace", NAMESPACE, "delete", "pod", "--selector", TASKS)
    space.run("delete", "llm", "theirs", "--timeout=60s", timeout_s=70)
    space.wait_gone("theirs", timeout_s=120)

    definitions = {f"CustomResourceDefinition {name}" for name in RESOURCES}
    namespace = {f"Namespace {NAMESPACE}", *(f"{kind} {NAMESPACE}/{name}" for kind, name in OF_EVERY_NAMESPACE)}
    wait_left(world.kubectl, before, definitions | namespace, timeout_s=60)


def wait_version(operator: Space, space: Space, version: str) -> None:
    """Wait until every pod of the release and of the deployment runs images of a version, and no other one is left."""
    wanted = {f"localhost/headrace-{part}:{version}" for part in PARTS}
    found: set[str] = set()

    def holds() -> bool:
        nonlocal found
        mine = space.listed("pods", f"serving.headrace.dev/deployment={NAME}")
        pods = [*operator.listed("pods", f"app.kubernetes.io/name={OPERATOR}"), *mine]
        running = [pod for pod in pods if pod["status"].get("phase") != "Succeeded"]  # the Job that fetched the weights
        found = {container["image"] for pod in running for container in pod["spec"]["containers"]}
        return found == wanted and space.condition(NAME, "Ready").get("status") == "True"

    try:
        wait_for(holds, 400, f"Not everything came to version {version}")
    except StartError as error:
        raise StartError(f"{error} There are {', '.join(sorted(found))}.") from None
