"""What goes into an image and how it is named; what is cut out of packages for machines without GPUs."""

import ctypes
import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from e2e.images import recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def trim() -> ModuleType:
    spec = importlib.util.spec_from_file_location("trim", ROOT / "images" / "trim.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = (
        "images/Dockerfile",
        "images/trim.py",
        "locks/operator.txt",
        "locks/router.txt",
        "locks/worker.txt",
        "crds/headrace_api/names.py",
        "operator/headrace_operator/main.py",
        "router/headrace_router/main.py",
        "workers/headrace_worker/main.py",
    )
    for name in files:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return tmp_path


def names(tree: Path) -> dict[str, str]:
    return {part: recipe.image_name(part, tree, "base:1", "cpu") for part in recipe.PARTS}


def test_an_image_keeps_its_name_while_nothing_that_goes_in_changes(tree: Path) -> None:
    before = names(tree)
    (tree / "crds/headrace_api/__pycache__").mkdir()
    (tree / "crds/headrace_api/__pycache__/names.pyc").write_text("compiled")
    assert names(tree) == before


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("images/Dockerfile", {"operator", "router", "worker"}),
        ("crds/headrace_api/names.py", {"operator", "router", "worker"}),
        ("locks/worker.txt", {"worker"}),
        ("router/headrace_router/main.py", {"router"}),
    ],
)
def test_an_image_has_another_name_when_a_file_of_its_own_changes(tree: Path, file: str, changed: set[str]) -> None:
    before = names(tree)
    (tree / file).write_text("changed")
    assert {part for part, name in names(tree).items() if name != before[part]} == changed


def test_a_file_that_moves_gives_another_name(tree: Path) -> None:
    before = names(tree)["operator"]
    (tree / "operator/headrace_operator/main.py").rename(tree / "operator/headrace_operator/other.py")
    assert names(tree)["operator"] != before


def test_packages_are_kept_under_a_name_that_only_their_lock_changes(tree: Path) -> None:
    before = recipe.packages_name("worker", tree, "cpu")
    (tree / "workers/headrace_worker/main.py").write_text("changed")
    assert recipe.packages_name("worker", tree, "cpu") == before
    (tree / "locks/worker.txt").write_text("changed")
    assert recipe.packages_name("worker", tree, "cpu") != before


def test_the_build_is_told_of_the_index_and_of_nothing_else_in_the_environment() -> None:
    environment = {"PIP_INDEX_URL": "https://index.example/simple", "HTTPS_PROXY": "", "TOKEN": "secret"}
    assert recipe.build_arguments("base:1", "cpu", environment) == [
        *("--build-arg", "BASE=base:1"),
        *("--build-arg", "ACCELERATOR=cpu"),
        *("--build-arg", "PIP_INDEX_URL=https://index.example/simple"),
    ]


def test_every_argument_of_the_build_is_declared_in_the_dockerfile() -> None:
    text = (ROOT / "images" / "Dockerfile").read_text()
    for name in ("BASE", "ACCELERATOR", *recipe.INDEX_VARIABLES):
        assert f"ARG {name}" in text, name


def test_the_build_context_holds_every_folder_that_the_dockerfile_copies() -> None:
    shown = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    lines = (ROOT / "images" / "Dockerfile").read_text().splitlines()
    copied = [line.split()[1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    assert copied
    for path in copied:
        assert any(path == place or path.startswith(f"{place}/") for place in shown), path


def test_only_the_nixl_build_for_the_cuda_of_torch_stays(trim: ModuleType) -> None:
    assert "nixl_cu12.libs" in trim.other_nixl("cuda: Optional[str] = '13.2'")
    assert not any("cu13" in pattern for pattern in trim.other_nixl("cuda: Optional[str] = '13.2'"))


def test_a_torch_that_names_no_cuda_is_refused(trim: ModuleType) -> None:
    with pytest.raises(ValueError, match="names no CUDA version"):
        trim.other_nixl("cuda: Optional[str] = None")


@pytest.mark.skipif(shutil.which("c++") is None or shutil.which("nm") is None, reason="needs c++ and nm")
def test_a_hollow_library_lets_programs_load_that_need_its_symbols_and_versions(
    trim: ModuleType, tmp_path: Path
) -> None:
    build(
        tmp_path, "lib/libbig.so.7", "int big_count(void) { return 7; } int big_table[9];", "BIG_7 { global: big_*; };"
    )
    user = "int big_count(void); int fine(void) { return 3; } int bad(void) { return big_count(); }"
    build(tmp_path, "libuser.so", user, None, str(tmp_path / "lib/libbig.so.7"), f"-Wl,-rpath,{tmp_path}/lib")
    trim._hollow(tmp_path / "lib/libbig.so.7")
    assert b"big_count" in (tmp_path / "lib/libbig.so.7").read_bytes()
    assert ctypes.CDLL(str(tmp_path / "libuser.so")).fine() == 3
    program = f"import ctypes; ctypes.CDLL({str(tmp_path / 'libuser.so')!r}).bad()"
    assert subprocess.run(["python3", "-c", program], check=False, timeout=30).returncode < 0


def build(folder: Path, name: str, code: str, script: str | None, *more: str) -> None:
    """Make a shared library whose symbols have versions where there is a script."""
    target = folder / name
    target.parent.mkdir(exist_ok=True)
    (folder / "source.c").write_text(code)
    command = ["c++", "-x", "c", "-shared", "-fPIC", str(folder / "source.c"), "-x", "none", *more, "-o", str(target)]
    if script is not None:
        (folder / "versions.map").write_text(script)
        command += [f"-Wl,-soname,{target.name}", f"-Wl,--version-script={folder / 'versions.map'}"]
    subprocess.run(command, check=True, timeout=60)
