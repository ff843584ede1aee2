"""The pod template of a worker."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from headrace_api.names import CONDITION_KV_TRANSFER, LABEL_DEPLOYMENT, LABEL_ROLE
from headrace_api.resources import LLMDeployment
from headrace_operator.objects import Site, stamped
from headrace_operator.objects.settings import config_map
from headrace_operator.plan import pools_of
from headrace_worker.__main__ import read_settings

Make = Callable[..., LLMDeployment]
Render = Callable[..., dict[str, Any]]


def by_name(items: list[dict[str, Any]]) -> Mapping[str, dict[str, Any]]:
    return {item["name"]: item for item in items}


def test_a_worker_is_told_who_it_is_by_its_pod(make: Make, worker: Render) -> None:
    container = worker(make())
    flags = dict(zip(container["args"][::2], container["args"][1::2], strict=True))
    assert flags == {
        "--settings": "/etc/headrace/settings.json",
        "--worker": "$(POD_NAME)",
        "--host": "0.0.0.0",
        "--advertise": "$(POD_IP)",
        "--port": "8000",
        "--incarnation-prefix": "$(POD_UID)",
    }
    variables = by_name(container["env"])
    assert variables["POD_UID"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.uid"}}
    assert variables["HEADRACE_SECRET"]["valueFrom"] == {"secretKeyRef": {"name": "chat-handoff", "key": "secret"}}


def test_the_secret_is_never_in_the_arguments(make: Make, worker: Render) -> None:
    assert not any("SECRET" in argument for argument in worker(make())["args"])


def test_only_the_proved_hand_off_lets_traffic_to_a_pod(make: Make, pod: Render) -> None:
    for role in ("prefill", "decode"):
        assert pod(make(), role)["spec"]["readinessGates"] == [{"conditionType": CONDITION_KV_TRANSFER}]


def test_a_pod_has_the_time_to_drain_that_the_user_gives(make: Make, pod: Render) -> None:
    assert pod(make(rollout={"drainTimeout": "90s"}))["spec"]["terminationGracePeriodSeconds"] == 105
    assert pod(make(rollout={"drainTimeout": "1500ms"}))["spec"]["terminationGracePeriodSeconds"] == 17


def test_a_worker_may_load_for_half_an_hour(make: Make, worker: Render) -> None:
    probe = worker(make())["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 1800
    assert probe["httpGet"] == {"path": "/ready", "port": "http"}


def test_readiness_is_asked_every_second_and_life_is_another_question(make: Make, worker: Render) -> None:
    container = worker(make())
    assert container["readinessProbe"]["periodSeconds"] == 1
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"


def test_every_place_that_is_written_is_a_volume(make: Make, pod: Render) -> None:
    spec = pod(make())["spec"]
    mounts = {mount["mountPath"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    volumes = by_name(spec["volumes"])
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"]
    assert volumes[mounts["/tmp"]["name"]]["emptyDir"] == {}
    assert volumes[mounts["/dev/shm"]["name"]]["emptyDir"]["medium"] == "Memory"
    assert {mount["name"] for mount in mounts.values()} == volumes.keys()
    assert by_name(spec["containers"][0]["env"])["HOME"]["value"] == "/tmp"


def test_a_cached_model_is_mounted_for_reading(make: Make, pod: Render) -> None:
    spec = pod(make())["spec"]
    container = spec["containers"][0]
    assert by_name(spec["volumes"])["models"]["persistentVolumeClaim"] == {"claimName": "chat-models"}
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in container["volumeMounts"]
    assert by_name(container["env"])["XDG_CACHE_HOME"]["value"] == "/models"


def test_a_model_in_the_image_needs_no_volume(make: Make, pod: Render) -> None:
    spec = pod(make(uri="file:///opt/model"))["spec"]
    assert "models" not in by_name(spec["volumes"])
    assert "XDG_CACHE_HOME" not in by_name(spec["containers"][0]["env"])


def test_a_claim_of_the_users_is_mounted_and_is_no_cache(make: Make, pod: Render) -> None:
    spec = pod(make(uri="pvc://shelf/llama/8b"))["spec"]
    assert by_name(spec["volumes"])["models"]["persistentVolumeClaim"] == {"claimName": "shelf"}
    assert "XDG_CACHE_HOME" not in by_name(spec["containers"][0]["env"])


def test_a_claim_filled_before_is_mounted_for_reading_by_the_volume_too(make: Make, pod: Render) -> None:
    cache = {"claim": "shelf", "accessMode": "ReadOnlyMany"}
    volumes = by_name(pod(make(model={"cache": cache}))["spec"]["volumes"])
    assert volumes["models"]["persistentVolumeClaim"] == {"claimName": "shelf", "readOnly": True}


@pytest.mark.parametrize(("mode", "near"), [("ReadWriteOnce", True), ("ReadWriteMany", False)])
def test_workers_share_a_node_only_where_their_volume_needs_it(
    make: Make, pod: Render, mode: str, *, near: bool
) -> None:
    spec = pod(make(model={"cache": {"accessMode": mode}}))["spec"]
    assert ("affinity" in spec) == near
    assert ("topologySpreadConstraints" in spec) != near


def test_spreading_is_a_wish_within_the_role(make: Make, pod: Render) -> None:
    constraint = pod(make(uri="file:///m"), "prefill")["spec"]["topologySpreadConstraints"][0]
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
    assert constraint["labelSelector"]["matchLabels"] == {LABEL_DEPLOYMENT: "chat", LABEL_ROLE: "prefill"}


def test_a_role_is_placed_as_its_user_says(make: Make, pod: Render) -> None:
    tolerations = [{"key": "gpu", "operator": "Exists"}]
    deployment = make(prefill={"nodeSelector": {"pool": "fast"}, "tolerations": tolerations})
    prefill, decode = pod(deployment, "prefill")["spec"], pod(deployment, "decode")["spec"]
    assert prefill["nodeSelector"] == {"pool": "fast"}
    assert prefill["tolerations"] == tolerations
    assert "nodeSelector" not in decode
    assert "tolerations" not in decode


def test_a_pod_with_a_gpu_goes_to_nodes_kept_for_gpus(make: Make, pod: Render, gpu_site: Site) -> None:
    assert pod(make(), where=gpu_site)["spec"]["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert "tolerations" not in pod(make(accelerator="cpu"), where=gpu_site)["spec"]


def test_a_pod_asks_for_no_rights_at_the_api_server(make: Make, pod: Render) -> None:
    spec = pod(make())["spec"]
    assert spec["serviceAccountName"] == "chat-worker"
    assert spec["automountServiceAccountToken"] is False


def test_images_come_as_the_operator_was_told(make: Make, pod: Render) -> None:
    where = Site("registry/w@sha256:0", "r", image_pull_policy="Never", image_pull_secrets=("pull",))
    spec = pod(make(), where=where)["spec"]
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    assert spec["containers"][0]["image"] == "registry/w@sha256:0"
    assert spec["containers"][0]["imagePullPolicy"] == "Never"


def test_the_reason_of_an_end_can_be_read_from_the_pods_status(make: Make, worker: Render) -> None:
    assert worker(make())["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_locked_memory_is_a_right_only_where_it_is_asked_for(make: Make, worker: Render) -> None:
    def capabilities(**rdma: Any) -> Any:
        return worker(make(kv={"rdma": {"resource": "rdma/hca", **rdma}}))["securityContext"]["capabilities"]

    assert capabilities() == {"drop": ["ALL"]}
    assert capabilities(lockMemory=True) == {"drop": ["ALL"], "add": ["IPC_LOCK"]}


def test_the_worker_takes_its_arguments_and_settings(
    make: Make, pod: Render, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = make(kv={"memory": "64Mi"})
    pools = {pool.role: stamped(deployment, pool, site) for pool in pools_of(deployment)}
    file = tmp_path / "settings.json"
    file.write_text(config_map(deployment, pools["decode"], site)["data"]["settings.json"])
    fields = {"$(POD_NAME)": "chat-decode-1", "$(POD_IP)": "10.0.0.7", "$(POD_UID)": "u-1"}
    given = pod(deployment)["spec"]["containers"][0]["args"]
    monkeypatch.setenv("HEADRACE_SECRET", "shared")

    read = read_settings([str(file) if value.endswith(".json") else fields.get(value, value) for value in given])

    assert (read.worker, read.address, read.port, read.role) == ("chat-decode-1", "10.0.0.7", 8000, "decode")
    assert read.incarnation.startswith("u-1.")
    assert (read.secret, read.kv_memory_bytes) == ("shared", 64 << 20)
