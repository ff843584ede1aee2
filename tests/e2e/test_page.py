"""Commands of the manual's pages, as the scenarios run them; what a cluster holds, as they read it."""

from pathlib import Path

import pytest
from e2e.cluster.deadline import wait_until
from e2e.scenarios import page
from e2e.scenarios.inventory import described

ROOT = Path(__file__).parents[2]
PAGE = """# Title

```sh
first
second \\
  goes on
```

<!-- not run: it needs a registry -->
```sh
third
```

```yaml
not: a command
```

```sh
fourth
```
"""


def run(folder: Path, *blocks: str, timeout_s: float = 20.0) -> str:
    return page.run(list(blocks), folder=folder, environment={"NAMED": "value"}, timeout_s=timeout_s)


def test_commands_of_a_page_are_its_shell_blocks_but_for_those_marked() -> None:
    assert page.commands(PAGE) == ["first\nsecond \\\n  goes on", "fourth"]


def test_the_install_page_has_commands_from_the_first_to_the_last() -> None:
    text = "\n".join(page.commands((ROOT / "docs" / "install.md").read_text()))

    assert text.startswith("helm install ")
    assert "docker push" not in text
    assert "kubectl delete namespace headrace-system" in text


def test_blocks_share_a_shell_in_a_folder_with_an_environment(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content\n")

    assert "content value of shell\n" in run(tmp_path, "own=shell", "echo $(cat file) $NAMED of $own")


def test_the_first_command_that_fails_ends_a_page_and_is_told(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?s)ended with status 1:.*\+ false\n$"):
        run(tmp_path, "false", "echo not reached")


def test_what_a_page_leaves_in_the_background_ends_with_it(tmp_path: Path) -> None:
    run(tmp_path, "(while true; do echo again; sleep 0.05; done) >beats & echo $! >pid")

    status = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    wait_until(lambda: not status.exists() or status.read_text().split()[2] == "Z", timeout_s=10, what="It goes on")


def test_a_page_that_takes_too_long_is_ended_and_told(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?s)longer than 0 s:"):
        run(tmp_path, "sleep 30", timeout_s=0.2)


def test_an_inventory_names_objects_with_and_without_a_namespace_and_leaves_out_what_passes() -> None:
    lines = ["", "Pod   team   one", "Namespace   <none>   team", "Event   team   one.17"]

    assert described(lines) == {"Pod team/one", "Namespace team"}
