"""Text to the ids of an encoder: the whole text at once, its first and last token added, never an end to generate."""

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from headrace_worker.errors import ModelError


class EncoderVocabulary:
    """The tokenizer of an encoder's folder; special tokens spelled in a client's text stay text.

    Args:
        path: a folder with tokenizer.json.

    Raises:
        ModelError: there is none, or it is no tokenizer.
    """

    def __init__(self, path: Path) -> None:
        try:
            content = json.loads((path / "tokenizer.json").read_bytes())
            # The file's own cut and padding are those of its training; a request says what it wants.
            self._tokenizer = Tokenizer.from_str(json.dumps({**content, "truncation": None, "padding": None}))
        except FileNotFoundError as error:
            raise ModelError(f"{path} has no tokenizer.json, expected one beside the weights") from error
        except Exception as error:  # the tokenizers package raises bare Exception
            raise ModelError(f"{path}/tokenizer.json is no tokenizer this worker knows: {error}") from error
        self._tokenizer.encode_special_tokens = True

    @property
    def size(self) -> int:
        """How many ids there are."""
        return self._tokenizer.get_vocab_size()

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, special tokens included."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]


def cut(ids: Sequence[int], most: int) -> list[int]:
    """Return at most `most` ids, the last one (the text's end mark) kept."""
    return list(ids) if len(ids) <= most else [*ids[: most - 1], ids[-1]]
