import json
import socket
from pathlib import Path

import pytest

from headrace_worker import __main__ as entry
from headrace_worker.errors import SettingsError
from headrace_worker.settings import WorkerSettings

NEEDED = ["--model", "file:///m", "--name", "tiny"]


def sentence(*arguments: str) -> str:
    with pytest.raises(SettingsError) as caught:
        entry.read_settings(arguments)
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "worker.json"
    path.write_text(json.dumps({"model": "file:///m", "name": "tiny", "threads": 3, "role": "prefill"}))
    return path


def test_settings_come_from_the_file_and_flags_win(file: Path) -> None:
    settings = entry.read_settings(["--settings", str(file), "--threads", "2", "--silence-s=1.5"])
    assert (settings.role, settings.threads, settings.silence_s) == ("prefill", 2, 1.5)


def test_every_setting_is_a_flag_with_its_manual(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        entry.read_settings(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, field in WorkerSettings.model_fields.items():
        if name == "secret":
            assert "--secret" not in text  # every user of the machine reads command lines
            continue
        assert f"--{name.replace('_', '-')} " in text
        assert (field.description or "missing").split("\n")[0].split("`")[0].strip() in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--model is missing"),
        ([*NEEDED, "--port", "70000"], "--port is '70000': input should be less than or equal to 65535."),
        ([*NEEDED, "--role", "both"], "--role is 'both': input should be 'prefill', 'decode' or 'unified'."),
        ([*NEEDED, "--dtype", "fp8"], "--dtype is 'fp8': input should be 'auto', 'bfloat16' or 'float32'."),
        ([*NEEDED, "--prot", "1"], "'--prot' is no flag of the worker; did you mean --port?"),
        ([*NEEDED, "stray"], "'stray' is no flag of the worker"),
        ([*NEEDED, "--threads"], "expected one argument"),
        (["--settings", "/nowhere.json"], "The settings file /nowhere.json cannot be read: No such file or directory."),
    ],
)
def test_a_wrong_command_line_is_one_sentence(arguments: list[str], told: str) -> None:
    assert told in sentence(*arguments)
    assert "\n" not in sentence(*arguments)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"model": "m", "name": "n", "treads": 1}', "treads is no setting of the worker; did you mean threads?"),
        ('{"model": "m", "name": "n", "threads": -1}', "threads is -1: input should be greater than or equal to 0."),
        ("[]", "holds no JSON object"),
        ("{", "is not JSON"),
    ],
)
def test_a_wrong_settings_file_is_one_sentence_that_names_it(file: Path, content: str, told: str) -> None:
    file.write_text(content)
    assert told in sentence("--settings", str(file))
    assert str(file) in sentence("--settings", str(file))


def test_a_secret_is_not_shown(file: Path) -> None:
    file.write_text('{"model": "m", "name": "n", "secret": 12345}')
    assert "12345" not in sentence("--settings", str(file))


def test_a_secret_comes_from_the_environment_where_the_file_has_none(file: Path) -> None:
    environ = {"HEADRACE_SECRET": "from outside"}
    assert entry.read_settings(NEEDED, environ).secret == "from outside"
    file.write_text('{"model": "m", "name": "n", "secret": "of the file"}')
    assert entry.read_settings(["--settings", str(file)], environ).secret == "of the file"
    assert entry.read_settings(NEEDED, {"HEADRACE_SECRET": ""}).secret == ""


def test_an_incarnation_begins_with_its_prefix_and_differs_from_start_to_start() -> None:
    made = {entry.read_settings([*NEEDED, "--incarnation-prefix", "uid"]).incarnation for _ in range(2)}
    assert len(made) == 2
    assert all(one.startswith("uid.") and len(one) > len("uid.") for one in made)
    again = WorkerSettings.model_validate_json(entry.read_settings(NEEDED).model_dump_json())
    assert "." not in again.incarnation


def test_a_worker_that_listens_everywhere_must_say_where_its_peers_find_it() -> None:
    everywhere = [*NEEDED, "--host", "0.0.0.0", "--role", "decode"]
    assert "--advertise is '': host is 0.0.0.0, which peers cannot connect to" in sentence(*everywhere)
    assert entry.read_settings([*everywhere, "--advertise", "10.0.0.7"]).address == "10.0.0.7"
    assert entry.read_settings([*NEEDED, "--host", "0.0.0.0"]).address == "0.0.0.0"


def test_a_port_in_use_ends_the_worker_with_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert entry.main([*NEEDED, "--port", str(port)]) == 2
    told = capsys.readouterr().err
    assert f"127.0.0.1:{port}: Address already in use" in told
    assert told.count("\n") == 1


def test_an_unknown_host_ends_the_worker_with_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main([*NEEDED, "--host", "256.0.0.1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
