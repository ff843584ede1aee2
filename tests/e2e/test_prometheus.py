"""Prometheus' image and objects for a test cluster, without one."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from e2e.prometheus.discovery import targets
from e2e.prometheus.image import linked
from e2e.prometheus.objects import NAME, Object, address, configuration, objects

from headrace_operator.objects.labels import ROUTER, WORKER

MONITOR = Path("charts/headrace/templates/monitors.yaml")


@pytest.fixture
def made() -> dict[str, Object]:
    return {one["kind"]: one for one in objects("prometheus:1", "python:1")}


def test_the_libraries_of_a_program_are_read_with_its_loader() -> None:
    printed = """\tlinux-vdso.so.1 (0x00007fa6e5a05000)
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007fa6e5812000)
\t/lib64/ld-linux-x86-64.so.2 (0x00007fa6e5a07000)
"""
    assert linked(printed) == [Path("/lib/x86_64-linux-gnu/libc.so.6"), Path("/lib64/ld-linux-x86-64.so.2")]
    assert linked("\tstatically linked\n") == []


def test_its_address_leads_to_its_port(made: dict[str, Object]) -> None:
    (port,) = made["Service"]["spec"]["ports"]
    assert address("monitoring") == f"http://{NAME}.monitoring.svc:{port['port']}"
    assert port["port"] == made["Pod"]["spec"]["containers"][0]["ports"][0]["containerPort"]
    assert made["Service"]["spec"]["selector"] == made["Pod"]["metadata"]["labels"]


def test_a_pod_is_found_with_each_of_its_ports_and_its_labels() -> None:
    pod = {
        "metadata": {"namespace": "serving", "name": "p0", "labels": {"serving.headrace.dev/role": "decode"}},
        "spec": {"containers": [{"name": "worker", "ports": [{"name": "http", "containerPort": 8000}]}, {"name": "b"}]},
        "status": {"phase": "Running", "podIP": "10.1.1.1"},
    }
    (found,) = targets(pod)
    assert found["targets"] == ["10.1.1.1:8000"]
    assert found["labels"] == {
        "__meta_kubernetes_namespace": "serving",
        "__meta_kubernetes_pod_name": "p0",
        "__meta_kubernetes_pod_phase": "Running",
        "__meta_kubernetes_pod_container_name": "worker",
        "__meta_kubernetes_pod_container_port_name": "http",
        "__meta_kubernetes_pod_label_serving_headrace_dev_role": "decode",
    }
    assert list(targets({**pod, "status": {"phase": "Pending"}})) == []


def test_its_pod_keeps_to_the_restricted_profile(made: dict[str, Object]) -> None:
    spec = made["Pod"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert all(one["securityContext"]["capabilities"] == {"drop": ["ALL"]} for one in spec["containers"])


def test_it_labels_what_it_reads_as_the_pod_monitor_of_the_chart_does() -> None:
    (target,) = [line for line in MONITOR.read_text().splitlines() if "podTargetLabels" in line]
    handed_on = {label.replace(".", "_").replace("/", "_") for label in yaml.safe_load(target)["podTargetLabels"]}
    rules = configuration()["scrape_configs"][0]["relabel_configs"]
    labelled = {rule["target_label"] for rule in rules if "target_label" in rule}
    assert labelled == {*handed_on, "namespace", "pod", "container"}


def test_it_reads_workers_and_routers() -> None:
    rules = configuration()["scrape_configs"][0]["relabel_configs"]
    (apps,) = (
        rule["regex"]
        for rule in rules
        if rule["source_labels"] == ["__meta_kubernetes_pod_label_app_kubernetes_io_name"]
    )
    assert set(apps.split("|")) == {WORKER, ROUTER}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: it comes with Prometheus")
def test_prometheus_itself_takes_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text(json.dumps(configuration()))
    done = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
