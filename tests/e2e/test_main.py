from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from e2e.cluster.__main__ import choose_provider, main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("command", "asked", "running", "expected"),
    [
        ("up", None, None, "kind"),
        ("up", None, "api", "kind"),
        ("up", "api", None, "api"),
        ("down", None, "api", "api"),
        ("down", None, None, "kind"),
        ("down", "existing", "api", "existing"),
        ("status", None, "api", "api"),
    ],
)
def test_a_command_without_a_wish_means_what_runs(
    command: str, asked: str | None, running: str | None, expected: str
) -> None:
    assert choose_provider(command, asked, running) == expected


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("provider", ["kind", "api"])
def test_taking_away_what_does_not_run_is_fine_and_leaves_nothing(empty_home: Path, provider: str) -> None:
    assert main(["down", "--provider", provider]) == 0
    assert list(empty_home.iterdir()) == []


def test_the_status_of_no_cluster_says_so(empty_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 3
    assert capsys.readouterr().out.startswith(f"kind: not running, KUBECONFIG={empty_home}")


def test_an_existing_cluster_without_a_kubeconfig_is_a_sentence(
    empty_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(empty_home / "none"))

    assert main(["up", "--provider", "existing"]) == 1
    assert "set KUBECONFIG to the one to use" in capsys.readouterr().err


def test_another_providers_cluster_is_named_when_it_is_in_the_way(
    empty_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = empty_home / "headrace" / "cluster" / "run" / "state.json"
    state.parent.mkdir(parents=True)
    state.write_text('{"provider": "api", "kubeconfig": ""}')

    assert main(["down", "--provider", "kind"]) == 1
    assert "make cluster-down CLUSTER=api" in capsys.readouterr().err


def test_loading_an_image_without_a_cluster_says_how_to_start_one(
    empty_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["load", "some:image"]) == 1
    assert "make cluster-up" in capsys.readouterr().err
    assert list(empty_home.iterdir()) == []
