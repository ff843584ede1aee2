from __future__ import annotations

import pytest
from e2e.cluster.modules import build_arguments, get_arguments, module_text, needs_staging, staging_paths
from e2e.cluster.versions import (
    API_PROGRAMS,
    ETCD_MODULE,
    IMAGE_PROGRAMS,
    KIND_PROGRAMS,
    KUBERNETES_MODULE,
    MODULES,
    NODE_PROGRAMS,
    PROGRAMS,
    cache_name,
)

UPSTREAM = """module k8s.io/kubernetes

require k8s.io/utils v0.0.0-20250604170112-4c0f3b243397

replace (
	k8s.io/kubelet => ./staging/src/k8s.io/kubelet
	k8s.io/api => ./staging/src/k8s.io/api
	example.org/other => ../other
)
"""


def test_staging_libraries_are_those_replaced_by_a_staging_folder() -> None:
    assert staging_paths(UPSTREAM) == ("k8s.io/api", "k8s.io/kubelet")


def test_staging_libraries_are_found_in_lines_of_their_own_too() -> None:
    assert staging_paths("replace k8s.io/api => ./staging/src/k8s.io/api\n") == ("k8s.io/api",)


def test_a_module_without_staging_requires_itself_only() -> None:
    assert module_text(ETCD_MODULE) == (
        "module headrace.invalid/etcd\n\ngo 1.24.0\n\nrequire go.etcd.io/etcd/server/v3 v3.6.5\n"
    )


def test_staging_libraries_are_replaced_by_the_published_ones() -> None:
    text = module_text(KUBERNETES_MODULE, staging=["k8s.io/api"])

    assert "replace (\n\tk8s.io/api => k8s.io/api v0.34.4\n)\n" in text


def test_only_kubernetes_needs_staging() -> None:
    assert [module.name for module in MODULES if needs_staging(module)] == ["kubernetes"]


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_a_program_is_asked_for_by_its_version(name: str) -> None:
    program = PROGRAMS[name]

    assert get_arguments(program)[-1] == f"{program.package}@{program.module.version}"


def test_the_linker_stamps_the_version_that_kubelet_tells() -> None:
    arguments = build_arguments(PROGRAMS["kubelet"], "out")

    flags = arguments[arguments.index("-ldflags") + 1]
    assert "-X k8s.io/component-base/version.gitVersion=v1.34.4" in flags
    assert "-X k8s.io/component-base/version.gitMinor=34" in flags
    assert arguments[-2:] == ["out", "k8s.io/kubernetes/cmd/kubelet"]


def test_every_level_names_programs_that_exist() -> None:
    assert {*API_PROGRAMS, *KIND_PROGRAMS, *NODE_PROGRAMS, *IMAGE_PROGRAMS} <= set(PROGRAMS)


def test_the_cache_folder_tells_the_kubernetes_version() -> None:
    assert cache_name().startswith("kubernetes-1.34.4-")
