"""How much of a node workers ask for."""

from collections.abc import Callable
from typing import Any

from headrace_api.resources import LLMDeployment
from headrace_operator.objects import Site

Make = Callable[..., LLMDeployment]
Render = Callable[..., dict[str, Any]]

GIBI = 1 << 30


def test_threads_and_kv_memory_are_asked_for(make: Make, worker: Render) -> None:
    deployment = make(kv={"memory": "2Gi"}, decode={"threads": 3})
    assert worker(deployment)["resources"] == {"requests": {"cpu": "3", "memory": str(3 * GIBI)}}


def test_little_is_asked_for_where_little_is_said(make: Make, worker: Render) -> None:
    assert worker(make())["resources"] == {"requests": {"cpu": "100m", "memory": str(GIBI)}}


def test_what_the_user_says_is_taken_and_the_rest_completed(make: Make, worker: Render) -> None:
    resources = {"requests": {"cpu": "500m"}, "limits": {"memory": "8Gi"}}
    rendered = worker(make(decode={"threads": 3, "resources": resources}, kv={"memory": "2Gi"}))["resources"]
    assert rendered == {"requests": {"cpu": "500m"}, "limits": {"memory": "8Gi"}}


def test_kv_on_a_gpu_takes_no_memory_of_the_node(make: Make, worker: Render, gpu_site: Site) -> None:
    rendered = worker(make(kv={"memory": "40Gi"}), where=gpu_site)["resources"]
    assert rendered == {"requests": {"cpu": "100m", "memory": str(GIBI)}, "limits": {"nvidia.com/gpu": "1"}}


def test_auto_takes_a_gpu_only_where_there_is_one(make: Make, worker: Render, site: Site, gpu_site: Site) -> None:
    def gpus(where: Site, accelerator: str) -> Any:
        return worker(make(accelerator=accelerator), where=where)["resources"].get("limits")

    assert gpus(site, "auto") is None
    assert gpus(gpu_site, "auto") == {"nvidia.com/gpu": "1"}
    assert gpus(site, "nvidia") == {"nvidia.com/gpu": "1"}
    assert gpus(gpu_site, "cpu") is None


def test_a_number_of_gpus_that_the_user_states_stays(make: Make, worker: Render, gpu_site: Site) -> None:
    deployment = make(decode={"resources": {"limits": {"nvidia.com/gpu": 2}}})
    assert worker(deployment, where=gpu_site)["resources"]["limits"] == {"nvidia.com/gpu": "2"}


def test_adapters_for_rdma_are_asked_for(make: Make, worker: Render) -> None:
    rendered = worker(make(kv={"rdma": {"resource": "rdma/hca", "count": 2}}), "prefill")["resources"]
    assert rendered["limits"] == {"rdma/hca": "2"}


def test_shared_memory_is_bounded_and_larger_for_gpus(make: Make, pod: Render, gpu_site: Site, site: Site) -> None:
    def bound(where: Site) -> Any:
        volumes = pod(make(), where=where)["spec"]["volumes"]
        return next(volume["emptyDir"]["sizeLimit"] for volume in volumes if volume["name"] == "shm")

    assert (bound(site), bound(gpu_site)) == ("256Mi", "1Gi")
