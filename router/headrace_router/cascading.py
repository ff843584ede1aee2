"""The cascade of a router: its model files, and the ways of its tasks."""

from collections.abc import Iterable
from pathlib import Path

from headrace_api.resources.cascade import JUDGING, PREDICTING
from headrace_api.resources.cascade import Cascade as CascadeSpec
from headrace_router.cascade.errors import CascadeError
from headrace_router.cascade.figures import TierFigures
from headrace_router.cascade.file import read_difficulty
from headrace_router.cascade.gate import Gate
from headrace_router.cascade.policy import usable
from headrace_router.cascade.shelf import Shelf
from headrace_router.way import Way


class Cascading:
    """The cascade of one router.

    Args:
        spec: of the LLMRouter.
        gate: path of the gate's file.
        predictor: path of the predictor's.
    """

    def __init__(self, spec: CascadeSpec, gate: str | None, predictor: str | None) -> None:
        self._specs: dict[str | None, CascadeSpec] = {None: spec} | {task.name: spec.of(task) for task in spec.tasks}
        self._gate = Shelf(gate, self._load) if spec.policies & {*JUDGING} else None
        self._predictor = Shelf(predictor, read_difficulty) if spec.policies & {*PREDICTING} else None
        self.figures = TierFigures()
        self._ways = {task: Way(one, self._gate, self._predictor, self.figures) for task, one in self._specs.items()}

    def _load(self, path: Path) -> Gate:
        gate = Gate.load(path)
        for task, spec in self._specs.items():
            unsuited = usable(spec, gate)
            if unsuited is not None:
                named = "" if task is None else f" for task {task}"
                raise CascadeError(f"{path} cannot be used{named}: {unsuited}")
        return gate

    def way(self, task: str | None) -> Way:
        """Return how requests of a task go; a task that nobody knows has no way of its own."""
        return self._ways.get(task) or self._ways[None]

    def poll(self) -> None:
        """Look whether the model files have changed."""
        for shelf in (self._gate, self._predictor):
            if shelf is not None:
                shelf.poll()

    def problems(self) -> dict[str, str]:
        """Return why model files cannot be used, by what they are."""
        shelves = {"gate": self._gate, "predictor": self._predictor}
        return {name: shelf.problem for name, shelf in shelves.items() if shelf is not None and shelf.problem}

    def metrics(self) -> Iterable[str]:
        """Yield the samples of a scrape."""
        shelves = {"gate": self._gate, "predictor": self._predictor}
        away = {name: shelf.model is None for name, shelf in shelves.items() if shelf is not None}
        return self.figures.lines(away)
