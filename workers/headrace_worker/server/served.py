"""The facts of the loaded model that requests are checked against."""

from dataclasses import dataclass

from headrace_worker.text import ChatTemplate, Vocabulary


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One loaded model."""

    name: str
    vocabulary: Vocabulary
    template: ChatTemplate | None
    max_model_len: int
    fingerprint: str
