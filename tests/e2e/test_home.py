from __future__ import annotations

from pathlib import Path

import pytest
from e2e.cluster.errors import StateError
from e2e.cluster.existing import named_kubeconfig
from e2e.cluster.home import user_home
from e2e.cluster.processes import Daemon
from e2e.cluster.state import NetworkBefore, State, read_state, write_state

STATE = State(
    "kind",
    "/somewhere/kubeconfig",
    ready=True,
    daemons=(Daemon("dockerd", 7, 1.5, "/somewhere/log"),),
    network=NetworkBefore(owned=True, forward_policy="ACCEPT", forwarding=False),
)


def test_the_cache_lies_where_xdg_says() -> None:
    assert user_home({"XDG_CACHE_HOME": "/caches"}, Path("/home/ann")).root == Path("/caches/headrace/cluster")


@pytest.mark.parametrize("value", ["", "relative/path"])
def test_a_cache_folder_that_is_not_absolute_is_ignored(value: str) -> None:
    home = user_home({"XDG_CACHE_HOME": value}, Path("/home/ann"))

    assert home.root == Path("/home/ann/.cache/headrace/cluster")


def test_parts_of_other_versions_lie_beside_each_other() -> None:
    home = user_home({}, Path("/home/ann"))

    assert home.parts.parent == home.root
    assert home.run_lock.parent == home.run.parent


def test_the_state_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "run" / "state.json"

    write_state(file, STATE)

    assert read_state(file) == STATE
    assert [each.name for each in file.parent.iterdir()] == ["state.json"]


def test_no_state_file_means_no_cluster(tmp_path: Path) -> None:
    assert read_state(tmp_path / "state.json") is None


@pytest.mark.parametrize(
    "content", ["", "[]", '{"provider": "kind"}', '{"provider": "kind", "kubeconfig": "", "x": 1}']
)
def test_a_state_file_of_somebody_else_is_refused_with_its_path(tmp_path: Path, content: str) -> None:
    file = tmp_path / "state.json"
    file.write_text(content)

    with pytest.raises(StateError, match="state\\.json does not say what runs"):
        read_state(file)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"KUBECONFIG": "/a:/b", "HOME": "/home/ann"}, "/a"),
        ({"KUBECONFIG": "", "HOME": "/home/ann"}, "/home/ann/.kube/config"),
    ],
)
def test_an_existing_cluster_is_found_as_kubectl_finds_it(environment: dict[str, str], expected: str) -> None:
    assert named_kubeconfig(environment) == Path(expected)
