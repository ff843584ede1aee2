from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest
from e2e.cluster import node
from e2e.cluster.config import cluster_config, stock_image
from e2e.cluster.debian import mirror
from e2e.cluster.errors import MissingError
from e2e.cluster.image import scratch_archive

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.example/pause:3.10"
  # explained here
  restrict_oom_score_adj = false
"""


def test_containerd_starts_pods_with_our_pause_image_and_without_negative_scores() -> None:
    edited = node.containerd_config(CONFIG, "localhost/kube/pause:3.10.1")

    assert '\n  sandbox_image = "localhost/kube/pause:3.10.1"\n' in edited
    assert "\n  restrict_oom_score_adj = true\n" in edited
    assert edited.startswith("version = 2\n")


def test_a_changed_configuration_of_kind_is_told_rather_than_ignored() -> None:
    with pytest.raises(ValueError, match=r"has 0 lines like .*sandbox_image"):
        node.containerd_config("version = 3\n", "pause")


def test_limits_go_out_of_the_unit_and_the_rest_stays() -> None:
    unit = "[Service]\nExecStart=x\nLimitNOFILE=infinity\nTasksMax=infinity\nOOMScoreAdjust=-999\n\n[Install]\n"

    assert node.containerd_unit(unit) == "[Service]\nExecStart=x\n\n[Install]\n"


def test_the_base_specification_has_kinds_hook_and_no_limits() -> None:
    edited = json.loads(node.base_specification('{"process": {"args": ["sh"], "rlimits": [{"type": "X"}]}}'))

    assert edited == {"process": {"args": ["sh"]}, "hooks": {"createContainer": [{"path": node.HOOK}]}}


def test_a_hook_from_before_stays() -> None:
    edited = json.loads(node.base_specification('{"hooks": {"createContainer": [{"path": "/first"}]}}'))

    assert edited["hooks"]["createContainer"] == [{"path": "/first"}, {"path": node.HOOK}]


def test_the_pod_network_gives_addresses_of_the_range_that_kind_is_told() -> None:
    network = json.loads(node.pod_network())
    config = json.loads(cluster_config(stock=False, mounts={}))

    assert network["plugins"][0]["ipam"]["ranges"] == [[{"subnet": config["networking"]["podSubnet"]}]]
    assert [plugin["type"] for plugin in network["plugins"]] == ["bridge", "portmap"]


def test_the_default_storage_class_waits_for_the_pod() -> None:
    storage = json.loads(node.storage_class())

    assert storage["metadata"]["name"] == "standard"
    assert storage["metadata"]["annotations"] == {"storageclass.kubernetes.io/is-default-class": "true"}
    assert storage["volumeBindingMode"] == "WaitForFirstConsumer"


def test_a_volume_stays_on_the_node_that_has_its_folder() -> None:
    volume = json.dumps(node.volume("volume-0", "node-a", 20))

    assert '"path": "/var/local/headrace/volume-0"' in volume
    assert '"values": ["node-a"]' in volume


def test_images_are_named_as_kubeadm_lists_them() -> None:
    listed = "localhost/kube/kube-proxy:v1.34.4\nlocalhost/kube/etcd:3.6.5-0\nW1123 a warning\n"

    assert node.image_names(listed) == {
        "kube-proxy": "localhost/kube/kube-proxy:v1.34.4",
        "etcd": "localhost/kube/etcd:3.6.5-0",
    }


def test_an_archive_of_an_image_holds_files_of_root_with_their_modes(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"12345")

    content = scratch_archive({"usr/local/bin/program": (tmp_path / "program", 0o755)})

    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        entry = archive.getmember("usr/local/bin/program")
        assert (entry.uid, entry.gid, entry.mode, entry.size) == (0, 0, 0o755, 5)


def test_a_built_node_brings_its_own_network_and_images() -> None:
    config = json.loads(cluster_config(stock=False, mounts={"/models": "/home/ann/models"}))
    patches = [json.loads(patch) for patch in config["kubeadmConfigPatches"]]

    assert config["networking"]["disableDefaultCNI"] is True
    assert {"kind": "ClusterConfiguration", "imageRepository": "localhost/kube"} in patches
    assert config["nodes"] == [
        {"role": "control-plane", "extraMounts": [{"hostPath": "/home/ann/models", "containerPath": "/models"}]}
    ]


def test_a_stock_node_keeps_what_kind_gives_it() -> None:
    config = json.loads(cluster_config(stock=True, mounts={}))

    assert "disableDefaultCNI" not in config["networking"]
    assert [json.loads(patch)["kind"] for patch in config["kubeadmConfigPatches"]] == ["KubeletConfiguration"]


@pytest.mark.parametrize("stock", [True, False])
def test_kubelet_accepts_machines_with_old_cgroups(*, stock: bool) -> None:
    config = json.loads(cluster_config(stock=stock, mounts={}))

    assert json.loads(config["kubeadmConfigPatches"][0])["failCgroupV1"] is False


def test_the_stock_image_is_read_from_the_source_of_kind() -> None:
    assert stock_image('package defaults\n\nconst Image = "some/node:v1@sha256:00"\n') == "some/node:v1@sha256:00"
    assert stock_image("package defaults\n") is None


TARGETS = """http://mirror.example/debian-security/ bookworm-security main
http://other.example/debian/ trixie main
http://mirror.example/debian/ bookworm main
"""


def test_the_mirror_is_the_one_that_apt_uses_for_the_release() -> None:
    assert mirror(TARGETS, "bookworm") == "http://mirror.example/debian/"


def test_a_machine_without_that_release_is_told_so() -> None:
    with pytest.raises(MissingError, match="no source for the main part of Debian bullseye"):
        mirror(TARGETS, "bullseye")
