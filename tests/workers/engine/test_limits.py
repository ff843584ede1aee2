"""Control groups of both versions, as folders of files."""

from pathlib import Path

import pytest

from headrace_worker.engine.limits import Limits, count_processors, read_limits

NO_LIMIT = str(0x7FFF_FFFF_FFFF_F000)
GIB = 1 << 30


class Tree:
    """A mount of control groups, and what the process says it belongs to."""

    def __init__(self, folder: Path) -> None:
        self.root, self.own = folder / "cgroup", folder / "own"
        self.root.mkdir()

    def put(self, folder: str, **files: str) -> None:
        at = self.root / folder
        at.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (at / name.replace("__", ".")).write_text(content + "\n")

    def read(self, *memberships: str) -> Limits:
        self.own.write_text("".join(f"{line}\n" for line in memberships))
        return read_limits(self.root, self.own)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture
def second(tree: Tree) -> Tree:
    tree.put("", cgroup__controllers="cpu memory")
    return tree


def test_a_container_of_version_2_sees_its_own_group_at_the_mount(second: Tree) -> None:
    second.put("", cpu__max="150000 100000", memory__max=str(4 * GIB), memory__current=str(GIB))
    second.put("", memory__stat=f"anon 5\ninactive_file {GIB // 2}\nactive_file 7")
    assert second.read("0::/") == Limits(1.5, 4 * GIB, 3 * GIB + GIB // 2)


def test_a_bound_further_up_holds_too(second: Tree) -> None:
    second.put("pods", cpu__max="200000 100000", memory__max=str(2 * GIB), memory__current=str(GIB + GIB // 2))
    second.put("pods/own", cpu__max="max 100000", memory__max=str(GIB), memory__current="0")
    assert second.read("0::/pods/own") == Limits(2.0, GIB, GIB // 2)


def test_max_is_no_bound(second: Tree) -> None:
    second.put("own", cpu__max="max 100000", memory__max="max", memory__current="5")
    assert second.read("0::/own") == Limits()


def test_a_container_of_version_1_names_paths_of_the_node_that_its_mounts_do_not_show(tree: Tree) -> None:
    tree.put("cpu", cpu__cfs_quota_us="250000", cpu__cfs_period_us="100000")
    tree.put("memory", memory__limit_in_bytes=str(GIB), memory__usage_in_bytes=str(GIB // 2))
    tree.put("memory", memory__stat="inactive_file 9\ntotal_inactive_file 1000")
    found = tree.read("5:cpu,cpuacct:/kubepods/pod1/x", "4:memory:/kubepods/pod1/x", "1:name=systemd:/", "0::/")
    assert found == Limits(2.5, GIB, GIB // 2 + 1000)


def test_version_1_without_bounds_is_none(tree: Tree) -> None:
    tree.put("cpu/own", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    tree.put("memory", memory__limit_in_bytes=NO_LIMIT, memory__usage_in_bytes="5")
    found = tree.read("5:cpu,cpuacct:/own", "4:memory:/")
    assert found.processors is None
    assert found.memory_bytes == int(NO_LIMIT)


def test_groups_that_use_more_than_their_bound_have_nothing_left(second: Tree) -> None:
    second.put("", memory__max="100", memory__current="150")
    assert second.read("0::/").memory_left_bytes == 0


@pytest.mark.parametrize("line", ["0::/../../elsewhere", "0::/gone", ""])
def test_paths_that_lead_out_of_the_mount_are_not_followed(second: Tree, line: str) -> None:
    second.put("", cpu__max="100000 100000")
    assert second.read(*[line] if line else []).processors == 1.0


def test_a_system_without_control_groups_sets_no_bound(tmp_path: Path) -> None:
    assert read_limits(tmp_path / "none", tmp_path / "none") == Limits()


def test_threads_fit_into_the_bound_and_there_is_one_at_least() -> None:
    whole = count_processors(Limits())
    assert whole >= 1
    assert count_processors(Limits(processors=0.3)) == 1
    assert count_processors(Limits(processors=1.9)) == 1
    assert count_processors(Limits(processors=1000.0)) == whole


def test_this_machines_own_groups_are_read() -> None:
    found = read_limits()
    assert found.memory_bytes is None or found.memory_bytes > 1 << 20
