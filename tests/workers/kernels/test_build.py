import stat
from pathlib import Path

import pytest

from headrace_worker.kernels import build
from headrace_worker.kernels.build import NoCompilerError


class FakeCompiler:
    """A compiler that notes its arguments and makes an empty library, or refuses."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "fake c++"
        self._log = folder / "log"
        self._log.touch()
        self.refuse(when="false")

    def refuse(self, when: str) -> None:
        """Let the compiler fail where the shell condition `when` holds."""
        self.path.write_text(
            "#!/bin/sh\n"
            f'echo "$@" >> {self._log}\n'
            f'if {when}; then echo "fatal: no such luck" >&2; exit 1; fi\n'
            'for last; do :; done\nexec c++ -shared -x c++ /dev/null -o "$last"\n'
        )
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)

    @property
    def calls(self) -> list[str]:
        return self._log.read_text().splitlines()


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompiler:
    fake = FakeCompiler(tmp_path)
    monkeypatch.setenv("CXX", f"'{fake.path}'")
    return fake


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def libraries(cache: Path) -> list[Path]:
    return sorted((cache / "kernels").glob("*.so"))


def test_the_second_call_takes_the_compiled_library_from_the_cache(compiler: FakeCompiler, cache: Path) -> None:
    build.library(cache)
    build.library(cache)
    assert len(compiler.calls) == 1
    assert len(libraries(cache)) == 1


def test_a_cache_that_cannot_be_written_is_done_without(compiler: FakeCompiler, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    build.library(tmp_path / "file" / "cache")
    assert len(compiler.calls) == 1


def test_other_compiler_flags_make_another_library(
    compiler: FakeCompiler, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.library(cache)
    monkeypatch.setenv("CXX", f"'{compiler.path}' -O1")
    build.library(cache)
    assert len(compiler.calls) == 2
    assert len(libraries(cache)) == 2


def test_another_processor_makes_another_library(
    compiler: FakeCompiler, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.library(cache)
    monkeypatch.setattr(build, "_processor", lambda: "model name: another one")
    build.library(cache)
    assert len(compiler.calls) == 2


def test_changed_source_makes_another_library(
    compiler: FakeCompiler, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.library(cache)
    changed = tmp_path / "cpu.cpp"
    changed.write_text(build.SOURCE.read_text() + "// changed\n")
    monkeypatch.setattr(build, "SOURCE", changed)
    build.library(cache)
    assert len(compiler.calls) == 2


def test_a_compiler_without_openmp_builds_the_kernels_without_it(compiler: FakeCompiler, cache: Path) -> None:
    compiler.refuse(when='echo "$@" | grep -q fopenmp')
    build.library(cache)
    assert ["-fopenmp" in call for call in compiler.calls] == [True, False]
    build.library(cache)
    assert len(compiler.calls) == 2


def test_a_compiler_that_refuses_is_named_with_its_complaint(compiler: FakeCompiler, cache: Path) -> None:
    compiler.refuse(when="true")
    with pytest.raises(NoCompilerError, match=r"the C\+\+ compiler '.*fake c\+\+' refused.*no such luck"):
        build.library(cache)
    assert libraries(cache) == []


def test_a_compiler_that_does_not_exist_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nonexistent/c++")
    with pytest.raises(NoCompilerError, match=r"'/nonexistent/c\+\+' refused the CPU kernels: .*No such file"):
        build.library(cache)


def test_no_compiler_at_all_says_what_to_install(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NoCompilerError, match="install one, or set CXX"):
        build.library(cache)


def test_a_damaged_library_in_the_cache_is_built_again(compiler: FakeCompiler, cache: Path, tmp_path: Path) -> None:
    build.library(cache)
    damaged = tmp_path / "other cache" / "kernels" / libraries(cache)[0].name
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"cut off")
    build.library(damaged.parent.parent)
    assert len(compiler.calls) == 2
    assert damaged.stat().st_size > 1000
