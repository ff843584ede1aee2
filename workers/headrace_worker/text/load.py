"""Vocabulary and chat template from whatever holds the model."""

from pathlib import Path

from headrace_worker.errors import ModelError
from headrace_worker.text.folder import load_folder
from headrace_worker.text.gguf import load_gguf
from headrace_worker.text.template import ChatTemplate
from headrace_worker.text.vocabulary import Vocabulary


def load_text(path: Path, source: str | None = None) -> tuple[Vocabulary, ChatTemplate | None]:
    """Return the vocabulary and, where there is one, the chat template.

    Args:
        path: a .gguf file or a folder with tokenizer.json.
        source: of the chat template, in place of the model's own.

    Raises:
        ModelError: the path is neither, its tokenizer is of a kind this worker does not know, or the template is wrong.
    """
    if path.is_dir():
        return load_folder(path, source)
    if path.is_file():
        return load_gguf(path, source)
    raise ModelError(f"{path} does not exist, expected a .gguf file or a folder with tokenizer.json")


def load_vocabulary(path: Path) -> Vocabulary:
    """Return the vocabulary alone; arguments and errors as in `load_text`."""
    return load_text(path)[0]
