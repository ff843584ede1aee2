"""Which kernels that were compiled ahead of time a processor can run."""

from pathlib import Path

import pytest

from headrace_worker.kernels import build, levels

V3 = frozenset({"avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "abm"})
V4 = V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (V4, ("x86-64-v4", "x86-64-v3", "x86-64")),
        (V3, ("x86-64-v3", "x86-64")),
        (V4 - {"fma"}, ("x86-64",)),
        (frozenset(), ("x86-64",)),
    ],
)
def test_a_processor_has_every_level_up_to_the_first_that_asks_for_more(
    flags: frozenset[str], found: tuple[str, ...]
) -> None:
    assert levels.supported("x86_64", flags) == found


def test_an_architecture_that_nobody_built_for_has_no_level() -> None:
    assert levels.supported("riscv64", frozenset()) == ()


def test_what_was_compiled_ahead_is_taken_and_needs_no_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.ahead(tmp_path / "built")
    monkeypatch.setattr(build, "BUILT", tmp_path / "built")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")

    library = build.library(tmp_path / "cache")

    assert library.hr_lanes() in {4, 8, 16}
    assert not (tmp_path / "cache").exists()


def test_kernels_of_another_source_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build.ahead(tmp_path / "built")
    monkeypatch.setattr(build, "BUILT", tmp_path / "built")
    monkeypatch.delenv("CXX", raising=False)
    changed = tmp_path / "cpu.cpp"
    changed.write_text(build.SOURCE.read_text() + "// changed\n")
    monkeypatch.setattr(build, "SOURCE", changed)

    build.library(tmp_path / "cache")

    assert list((tmp_path / "cache" / "kernels").glob("*.so"))
