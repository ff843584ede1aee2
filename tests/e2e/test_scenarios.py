"""What scenarios read from a cluster, without one."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from e2e.__main__ import main, scenarios
from e2e.cluster.errors import StartError
from e2e.scenarios import client, traffic
from e2e.scenarios.space import Space, wait_for


class Answers:
    """A kubectl that gives one object, or one text, whatever it is asked."""

    def __init__(self, content: object) -> None:
        self._text = content if isinstance(content, str) else json.dumps(content)

    def __call__(self, *_arguments: str, **_options: object) -> str:
        return self._text


def space(content: object) -> Space:
    return Space(Answers(content), "test")  # type: ignore[arg-type]  # it is only called


def deployment(generation: int, observed: int) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True", "message": ""}]
    return {
        "metadata": {"generation": generation},
        "status": {"observedGeneration": observed, "conditions": conditions},
    }


def test_a_condition_of_an_older_generation_does_not_count() -> None:
    assert space(deployment(2, 1)).condition("name", "Ready") == {}
    assert space(deployment(2, 2)).condition("name", "Ready")["status"] == "True"


def test_a_condition_that_never_comes_is_told_with_what_it_is() -> None:
    with pytest.raises(StartError, match=r"Ready of name is not False with 'secret' after 0 s\. It is .*'True'"):
        space(deployment(1, 1)).wait_condition("name", "Ready", "False", says="secret", timeout_s=0)


def test_samples_of_a_metric_are_summed_by_their_labels() -> None:
    text = (
        '# HELP bytes_total\nbytes_total{direction="sent",model="a"} 3\nbytes_total{direction="received"} 4\nother 5\n'
    )
    assert space(text).metric("pod", "bytes_total", direction="sent") == 3
    assert space(text).metric("pod", "bytes_total") == 7


def test_pods_on_their_way_out_are_no_workers() -> None:
    pods = [{"metadata": {"name": "stays"}}, {"metadata": {"name": "goes", "deletionTimestamp": "now"}}]
    assert [pod["metadata"]["name"] for pod in space({"items": pods}).pods("name")] == ["stays"]


def test_waiting_ends_with_a_sentence() -> None:
    with pytest.raises(StartError, match=r"It did not come after 0 s\."):
        wait_for(lambda: None, 0, "It did not come")


def answers(lines: Sequence[dict[str, Any]]) -> tuple[traffic.Answer, ...]:
    return traffic.Traffic(space("\n".join(json.dumps(line) for line in lines)), "client").answers()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"status": 200, "done": True, "finish": "length"}, None),
        ({"status": 200, "finish": "length"}, "0: the stream ended without [DONE]"),
        ({"status": 200, "done": True}, "0: it finished with None"),
        ({"status": 503, "error": "no worker"}, "0: status 503, no worker"),
        ({"error": "ConnectionResetError: reset"}, "0: status None, ConnectionResetError: reset"),
    ],
)
def test_only_an_answer_with_status_end_and_reason_is_complete(line: dict[str, Any], problem: str | None) -> None:
    first = {"event": "first", "number": 0, "at": 1.5}
    found = answers([first, {"event": "answer", "number": 0, "at": 1.0, "end": 2.0, **line}])
    assert traffic.problems(found) == ([] if problem is None else [problem])


def test_an_answer_tells_when_its_first_piece_came_and_the_ids_of_all_tries() -> None:
    end = {"event": "answer", "number": 0, "at": 1.0, "end": 2.0, "ids": ["a", "a"]}
    (found,) = answers([{"event": "first", "number": 0, "at": 1.2}, {"event": "first", "number": 0, "at": 1.5}, end])
    assert (found.first_s, found.ids) == (1.5, ("a", "a"))


def test_prompts_are_the_same_for_a_number_and_differ_from_their_start() -> None:
    assert client.prompt(3, 40) == client.prompt(3, 40)
    assert client.prompt(3, 40)[:8] != client.prompt(4, 40)[:8]


def test_a_scenario_that_is_not_there_is_refused_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["only=nothing"]) == 2
    assert "smoke" in capsys.readouterr().err
    assert "smoke" in scenarios()


@pytest.mark.parametrize("word", ["repeat=0", "repeat=often", "twice=2"])
def test_words_that_mean_nothing_are_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    assert word in capsys.readouterr().err


def test_rounds_end_with_the_first_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def fails_the_second_time(arguments: list[str]) -> int:
        ran.append(arguments)
        return len(ran) - 1

    monkeypatch.setattr("pytest.main", fails_the_second_time)
    assert main(["only=smoke", "repeat=5"]) == 1
    assert len(ran) == 2
