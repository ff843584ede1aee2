"""The tasks of `make bench-cascade`: their answers are right, and their prompts repeat by seed."""

from pathlib import Path

import pytest
from benchmarks.cascade.asking import Kept
from benchmarks.cascade.tasks import LEVELS, TASKS, Problem, problems

SIGNS = {"+": int.__add__, "-": int.__sub__, "x": int.__mul__}


@pytest.fixture(scope="module")
def found() -> list[Problem]:
    return problems(10, seed=3)


def question(problem: Problem) -> str:
    return problem.prompt.rpartition("\n\n")[2].removeprefix("Q: ").removesuffix("\nA:").removesuffix(" =")


def of(found: list[Problem], task: str) -> list[Problem]:
    return [problem for problem in found if problem.task == task]


def test_each_level_of_each_task_has_its_share(found: list[Problem]) -> None:
    kinds = [(problem.task, problem.level) for problem in found]
    assert {kinds.count((task, level)) for task in TASKS for level in LEVELS} == {10}
    assert len({problem.prompt for problem in found}) == len(found)


def test_equal_seeds_make_equal_prompts_and_a_smaller_set_is_part_of_a_larger(found: list[Problem]) -> None:
    assert problems(10, seed=3) == found
    assert set(problems(4, seed=3)) < set(found)
    assert problems(10, seed=4) != found


def test_no_question_is_among_the_solved_examples(found: list[Problem]) -> None:
    for problem in found:
        instruction, *shown, asked = problem.prompt.split("\n\n")
        assert instruction == TASKS[problem.task].instruction
        assert len(shown) == TASKS[problem.task].examples
        assert not any(one.startswith(asked) for one in shown)


def test_sums_differences_and_products_are_right(found: list[Problem]) -> None:
    for problem in of(found, "arithmetic"):
        one, sign, other = question(problem).split()
        assert SIGNS[sign](int(one), int(other)) == int(problem.answer) >= 0


def test_counts_orders_and_copies_are_right(found: list[Problem]) -> None:
    for problem in of(found, "counting"):
        words = question(problem).removeprefix("How many words are in this list: ").removesuffix("?")
        assert len(words.split()) == int(problem.answer)
    for problem in of(found, "sorting"):
        assert sorted(map(int, question(problem).split())) == list(map(int, problem.answer.split()))
    for problem in of(found, "copying"):
        assert problem.answer == question(problem)


def test_texts_hold_what_is_asked_of_them(found: list[Problem]) -> None:
    for problem in of(found, "extraction"):
        text, _, asked = question(problem).rpartition(". What is ")
        name = asked.removeprefix("the code of ").removesuffix("?")
        assert f"{name}: {problem.answer}" in text or f"{name} is a {problem.answer}" in text
    for problem in of(found, "deciding"):
        text, _, asked = question(problem).rpartition(". ")
        words = asked.removesuffix("?").split()
        claim = f"{words[1]} has a {words[4]} {words[5]}" if words[0] == "Does" else words[1]
        assert (claim in text) == (problem.answer == "yes")
    assert {problem.answer for problem in of(found, "deciding")} == {"yes", "no"}


@pytest.mark.parametrize(
    ("text", "right"), [(" 4 17 93", True), ("4, 17, 93.", True), ("4 17 93 5", False), ("", False), ("93 17 4", False)]
)
def test_an_answer_is_right_whatever_its_commas_and_spaces(text: str, *, right: bool) -> None:
    assert Problem("sorting", 1, "…", "4 17 93").right(text) is right


def test_answers_are_kept_even_where_a_run_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    answer = {"text": " 5", "tokens": [[7, -0.5, 1.25]], "finish": "stop"}
    Kept("model").add("2 + 3", answer)
    (file,) = tmp_path.rglob("*.jsonl")
    with file.open("a") as torn:
        torn.write('["abc", {"te')
    assert Kept("model").get("2 + 3") == answer
    assert Kept("model").get("3 + 3") is None
    assert Kept("other").get("2 + 3") is None
