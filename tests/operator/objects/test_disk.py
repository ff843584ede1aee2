"""The volume that KV blocks are offloaded to."""

from collections.abc import Callable
from typing import Any

from headrace_api.resources import LLMDeployment
from headrace_operator.desired import Pool
from headrace_operator.objects import Site, stamped
from headrace_operator.objects.settings import settings
from headrace_worker.settings import WorkerSettings

Make = Callable[..., LLMDeployment]
Render = Callable[..., dict[str, Any]]
Pools = Callable[[LLMDeployment], list[Pool]]

OFFLOAD = {"memory": "4Gi", "disk": "48Gi", "path": "/of/the/users/machine"}


def volume(pod: dict[str, Any]) -> dict[str, Any] | None:
    return next((one for one in pod["spec"]["volumes"] if one["name"] == "kv"), None)


def test_the_nodes_disk_is_bounded_above_the_workers_own_budget(make: Make, pod: Render) -> None:
    rendered = pod(make(kv={"offload": OFFLOAD}))
    assert volume(rendered) == {"name": "kv", "emptyDir": {"sizeLimit": str((51 << 30) + (64 << 20))}}
    (container,) = rendered["spec"]["containers"]
    assert {"name": "kv", "mountPath": "/var/cache/headrace/kv"} in container["volumeMounts"]


def test_a_storage_class_gives_each_pod_a_claim_that_goes_with_it(make: Make, pod: Render) -> None:
    offload = {"memory": "4Gi", "disk": "48Gi", "storageClass": "local-nvme"}
    claim = volume(pod(make(kv={"offload": offload})))
    assert claim is not None
    spec = claim["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert (spec["storageClassName"], spec["accessModes"]) == ("local-nvme", ["ReadWriteOnce"])
    assert spec["resources"] == {"requests": {"storage": str((51 << 30) + (64 << 20))}}


def test_without_a_disk_there_is_no_volume(make: Make, pod: Render) -> None:
    assert volume(pod(make())) is None
    assert volume(pod(make(kv={"offload": {"memory": "4Gi"}}))) is None


def test_a_worker_reads_its_budgets_and_the_mounted_folder(make: Make, pools: Pools, site: Site) -> None:
    deployment = make(kv={"offload": OFFLOAD})
    for pool in pools(deployment):
        read = WorkerSettings.model_validate(settings(deployment, pool, site))
        assert (read.offload_memory_bytes, read.offload_disk_bytes) == (4 << 30, 48 << 30)
        assert read.offload_path == "/var/cache/headrace/kv"


def test_a_worker_without_offload_is_told_nothing_of_it(make: Make, pools: Pools, site: Site) -> None:
    deployment = make()
    for pool in pools(deployment):
        assert not [name for name in settings(deployment, pool, site) if name.startswith("offload")]


def test_its_memory_is_asked_for_on_a_node_with_gpus_too(
    make: Make, worker: Render, site: Site, gpu_site: Site
) -> None:
    deployment = make(kv={"memory": "2Gi", "offload": OFFLOAD})
    assert worker(deployment, where=site)["resources"]["requests"]["memory"] == str(7 << 30)
    assert worker(deployment, where=gpu_site)["resources"]["requests"]["memory"] == str(5 << 30)


def test_other_budgets_are_another_revision_and_the_same_pairing(make: Make, pools: Pools, site: Site) -> None:
    plain, tiered = (make(), make(kv={"offload": OFFLOAD}))
    (before, *_), (after, *_) = ([stamped(one, pool, site) for pool in pools(one)] for one in (plain, tiered))
    assert before.revision != after.revision
    assert before.pairing == after.pairing
