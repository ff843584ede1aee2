"""Chooses the reader of weights for a path."""

from pathlib import Path

from headrace_worker.errors import ModelError
from headrace_worker.models.checkpoint import Checkpoint
from headrace_worker.models.gguf import GgufCheckpoint
from headrace_worker.models.safetensors import SafetensorsCheckpoint


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a .gguf file, or a folder with config.json and safetensors.

    Raises:
        ModelError: there is nothing to read there, or the architecture is unknown.
    """
    if path.is_file():
        return GgufCheckpoint(path)
    if (path / "config.json").is_file():
        return SafetensorsCheckpoint(path)
    inside = sorted(path.glob("*.gguf")) if path.is_dir() else []
    if len(inside) == 1:
        return GgufCheckpoint(inside[0])
    raise ModelError(f"{path} is neither a .gguf file nor a folder with config.json and .safetensors files")
