from __future__ import annotations

import pytest
from e2e.cluster.modules import build_arguments, get_arguments, module_text, replacements
from e2e.cluster.versions import (
    API_PROGRAMS,
    ETCD_MODULE,
    IMAGE_PROGRAMS,
    KEDA_MODULE,
    KEDA_PROGRAMS,
    KIND_PROGRAMS,
    KUBERNETES_MODULE,
    MODULES,
    NODE_PROGRAMS,
    PROGRAMS,
    cache_name,
    module_cache,
)

UPSTREAM = """module k8s.io/kubernetes

require k8s.io/utils v0.0.0-20250604170112-4c0f3b243397

replace (
	k8s.io/kubelet => ./staging/src/k8s.io/kubelet
	k8s.io/api => ./staging/src/k8s.io/api
	example.org/other => ../other
)
"""


def test_libraries_of_a_staging_folder_are_taken_as_they_are_published() -> None:
    assert replacements(UPSTREAM) == ("k8s.io/api => k8s.io/api v0.34.4", "k8s.io/kubelet => k8s.io/kubelet v0.34.4")


@pytest.mark.parametrize("word", ["replace ", "\t"])
def test_a_replacement_by_a_version_is_repeated_whether_it_stands_alone_or_in_a_block(word: str) -> None:
    line = "example.org/a => example.org/b v1.2.3"

    assert replacements(f"module example.org/m\n\n{word}{line}\n") == (line,)


def test_a_replacement_of_one_version_holds_for_all() -> None:
    assert replacements("replace a.org/a v1.0.0 => a.org/a v1.0.1\n") == ("a.org/a => a.org/a v1.0.1",)


def test_a_folder_that_is_not_published_is_left_to_the_version_that_is_required() -> None:
    assert replacements("replace go.etcd.io/etcd/api/v3 => ../api\n") == ()


def test_a_module_without_replacements_requires_itself_only() -> None:
    assert module_text(ETCD_MODULE) == (
        "module headrace.invalid/etcd\n\ngo 1.24.0\n\nrequire go.etcd.io/etcd/server/v3 v3.6.5\n"
    )


def test_replacements_become_one_block() -> None:
    text = module_text(KUBERNETES_MODULE, replaced=["k8s.io/api => k8s.io/api v0.34.4"])

    assert "replace (\n\tk8s.io/api => k8s.io/api v0.34.4\n)\n" in text


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
    assert {*API_PROGRAMS, *KIND_PROGRAMS, *NODE_PROGRAMS, *IMAGE_PROGRAMS, *KEDA_PROGRAMS} <= set(PROGRAMS)


def test_the_cache_folder_tells_the_kubernetes_version() -> None:
    assert cache_name().startswith("kubernetes-1.34.4-")


def test_what_only_some_scenarios_need_has_a_cache_folder_of_its_own() -> None:
    assert module_cache(ETCD_MODULE) == cache_name()
    assert KEDA_MODULE not in MODULES
    assert module_cache(KEDA_MODULE).startswith("keda-2.20.2-")
