"""How text is cut before byte-level BPE, by the kind a GGUF file names in `tokenizer.ggml.pre`.

The kinds are llama.cpp's names; a vocabulary cut the wrong way gives silently worse answers, so an unknown kind is an
error and never a guess.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from tokenizers import Regex
from tokenizers.normalizers import NFC, Normalizer
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence, Split

from headrace_worker.errors import ModelError

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


class Cut(NamedTuple):
    """What stands before the merges of one kind."""

    pre_tokenizer: PreTokenizer
    normalizer: Normalizer | None = None
    ignore_merges: bool = False
    """A piece that is a token as a whole is taken whole, whatever its merges say."""


def _gpt2() -> Cut:
    return Cut(ByteLevel(add_prefix_space=False, use_regex=True))


def _single_digits() -> Cut:
    return Cut(Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]))


def _split(pattern: str) -> PreTokenizer:
    byte_level = ByteLevel(add_prefix_space=False, use_regex=False)
    return Sequence([Split(Regex(pattern), behavior="isolated"), byte_level])


def _llama3() -> Cut:
    return Cut(_split(_LLAMA3), ignore_merges=True)


def _qwen2() -> Cut:
    return Cut(_split(_QWEN2), normalizer=NFC())


_KINDS: Mapping[str, Callable[[], Cut]] = {
    "gpt-2": _gpt2,
    "smollm": _single_digits,
    "starcoder": _single_digits,
    "llama-bpe": _llama3,
    "llama3": _llama3,
    "llama-v3": _llama3,
    "qwen2": _qwen2,
    "deepseek-r1-qwen": _qwen2,
}


def cut_for(kind: str | None) -> Cut:
    """Return the cut that `kind` names; raise ModelError for one that is unknown or not named."""
    make = _KINDS.get(kind or "")
    if make is None:
        known = ", ".join(sorted(_KINDS))
        found = "names no pre-tokenizer" if kind is None else f"names pre-tokenizer {kind!r}"
        raise ModelError(
            f"the GGUF file {found} (tokenizer.ggml.pre), expected one of {known}; "
            "use a folder with the model's tokenizer.json instead"
        )
    return make()
