"""What kind of model a folder holds, read without torch, so that a worker's front can ask too."""

import json
from pathlib import Path

ENCODERS = ("BertModel",)
"""Architectures that turn a text into one vector."""


def is_encoder(path: Path) -> bool:
    """Whether a model folder holds an encoder, by the architecture that its config.json names."""
    try:
        raw = json.loads((path / "config.json").read_bytes())
        return bool(set(raw.get("architectures") or ()) & set(ENCODERS))
    except (OSError, ValueError, AttributeError, TypeError):
        return False  # whoever opens the model says what is wrong with it
