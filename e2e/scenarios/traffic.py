"""Requests from inside the cluster: a client pod, what it was answered, and what must hold of the answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from e2e.cluster.security import CONTAINER, POD
from e2e.scenarios.space import Space, wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2e.scenarios.space import Object

_SCRIPT: Final = Path(__file__).with_name("client.py")
_START_TIMEOUT_S: Final = 60.0
_LOG_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request was answered."""

    number: int
    text: str
    prefill: str | None
    decode: str | None
    pieces: int
    problem: str | None
    """What kept it from being complete."""
    start_s: float
    end_s: float
    ids: tuple[str, ...] = ()
    """The id under which each try was answered."""
    first_s: float | None = None
    """When the first piece of text came."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """A client that runs in a pod.

    Attributes:
        space: Where the pod runs.
        name: Name of the pod.
    """

    space: Space
    name: str

    def wait_streams(self, count: int, timeout_s: float) -> None:
        """Wait until this many answers have begun to come."""
        what = f"The client has not seen the first words of {count} answers"
        wait_for(lambda: sum(line["event"] == "first" for line in self._lines()) >= count, timeout_s, what)

    def wait_answers(self, count: int, timeout_s: float) -> None:
        """Wait until this many answers have ended."""
        wait_for(lambda: len(self.answers()) >= count, timeout_s, f"The client has not had {count} answers")

    def stop(self) -> None:
        """Let the client begin no more requests."""
        self.space.run("exec", self.name, "--", "touch", "/tmp/stop")

    def end(self, timeout_s: float) -> tuple[Answer, ...]:
        """Wait until the client has read every answer, take it away, and return the answers by number."""
        wait_for(self._has_ended, timeout_s, "The client did not come to its end")
        answers = self.answers()
        self.space.delete("pod", self.name)
        return answers

    def answers(self) -> tuple[Answer, ...]:
        """Return the answers that have ended, by number."""
        lines = self._lines()
        firsts = {line["number"]: line["at"] for line in lines if line["event"] == "first"}
        found = [_answer(line, firsts.get(line["number"])) for line in lines if line["event"] == "answer"]
        return tuple(sorted(found, key=lambda answer: answer.number))

    def _has_ended(self) -> bool:
        pod = self.space.find("pod", self.name)
        assert pod is not None, "the client's pod is gone"
        phase: str = pod["status"].get("phase", "")
        assert phase != "Failed", f"the client failed:\n{self.space.run('logs', self.name)}"
        return phase == "Succeeded"

    def _lines(self) -> list[dict[str, Any]]:
        text = self.space.run("logs", self.name, timeout_s=_LOG_TIMEOUT_S)
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def start(space: Space, image: str, model: str, *, name: str = "client", **options: int) -> Traffic:
    """Start a client that asks a model through its Service.

    Args:
        space: Namespace of the model, and of the client.
        image: Any image with Python.
        model: Name of the LLMDeployment.
        name: Name of the pod.
        options: Flags of `client.py`: count, seconds, concurrency, tokens, words, plain, repeats.
    """
    flags = {"url": f"http://{model}.{space.name}.svc", "model": model, **options}
    words = [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
    space.apply(client_pod(name, image, ["python", "-c", _SCRIPT.read_text(), *words]))
    wait_for(lambda: _has_started(space, name), _START_TIMEOUT_S, f"The pod {name} did not start")
    return Traffic(space, name)


def ask(space: Space, image: str, model: str, timeout_s: float, *, count: int, **options: int) -> tuple[Answer, ...]:
    """Ask `count` times and return the answers."""
    return start(space, image, model, name="asker", count=count, **options).end(timeout_s)


def client_pod(name: str, image: str, command: Sequence[str]) -> Object:
    """Return a pod that runs one command once, as the restricted profile wants it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": POD,
            "containers": [
                {
                    "name": "client",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": list(command),
                    "securityContext": CONTAINER,
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }


def problems(answers: Sequence[Answer]) -> list[str]:
    """Return what was wrong with each answer that is not complete."""
    return [f"{answer.number}: {answer.problem}" for answer in answers if answer.problem is not None]


def _answer(line: dict[str, Any], first_s: float | None) -> Answer:
    return Answer(
        line["number"],
        line.get("text", ""),
        line.get("prefill"),
        line.get("decode"),
        line.get("pieces", 0),
        _problem(line),
        line["at"],
        line["end"],
        tuple(line.get("ids", ())),
        first_s,
    )


def _problem(line: dict[str, Any]) -> str | None:
    """Return what an answer lacks: a status of 200, an end, a reason for its end."""
    if "error" in line:
        return f"status {line.get('status')}, {line['error']}"
    if not line.get("done"):
        return "the stream ended without [DONE]"
    return None if line.get("finish") in {"stop", "length"} else f"it finished with {line.get('finish')!r}"


def _has_started(space: Space, name: str) -> bool:
    pod = space.find("pod", name)
    return pod is not None and pod["status"].get("phase") in {"Running", "Succeeded", "Failed"}
