"""The vocabulary and chat template in a GGUF file's header."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Metaspace

from headrace_worker.errors import ModelError
from headrace_worker.models.header import read_header
from headrace_worker.text.pieces import byte_level, plain, sentencepiece
from headrace_worker.text.pretokenizers import cut_for
from headrace_worker.text.template import ChatTemplate, turn_ends
from headrace_worker.text.vocabulary import Disguise, SpecialTokens, Vocabulary

_CONTROL = 3
_USER_DEFINED = 4


class _Fields:
    """The tokenizer's part of a header, each value with its type checked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._values = read_header(path, lambda key: key.startswith("tokenizer.")).values

    def text(self, key: str) -> str | None:
        value = self._values.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> int | None:
        value = self._values.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._values.get(key, default)
        return value if isinstance(value, bool) else default

    def strings(self, key: str) -> list[str]:
        return [value for value in self._list(key) if isinstance(value, str)]

    def numbers(self, key: str) -> list[float]:
        return [value for value in self._list(key) if isinstance(value, int | float)]

    def _list(self, key: str) -> Sequence[object]:
        value = self._values.get(key)
        if not isinstance(value, list):
            raise ModelError(f"{self.path} has no list {key}, so it has no usable tokenizer; fetch the file again")
        return value


def load_gguf(path: Path, source: str | None = None) -> tuple[Vocabulary, ChatTemplate | None]:
    """Return the vocabulary and, where there is one, the chat template; raise ModelError on what is unknown.

    Args:
        path: the file.
        source: of the chat template, in place of the file's own.
    """
    fields = _Fields(path)
    tokens = fields.strings("tokenizer.ggml.tokens")
    types = fields.numbers("tokenizer.ggml.token_type")
    if len(types) != len(tokens):
        raise ModelError(f"{path} has {len(tokens)} tokens but {len(types)} token types; fetch the file again")
    source = source or fields.text("tokenizer.chat_template")
    vocabulary = _vocabulary(fields, tokens, types, source or "")
    return vocabulary, None if source is None else ChatTemplate(source, _named_tokens(fields, tokens))


def _vocabulary(fields: _Fields, tokens: Sequence[str], types: Sequence[float], template: str) -> Vocabulary:
    controls = {token: place for place, token in enumerate(tokens) if types[place] == _CONTROL}
    whole = [token for place, token in enumerate(tokens) if types[place] == _USER_DEFINED]
    disguise = Disguise()
    spelled = {disguise.spell(place) if token in controls else token: place for place, token in enumerate(tokens)}
    model = fields.text("tokenizer.ggml.model")
    if model == "gpt2":
        tokenizer, spelling, whole_spelling = _byte_level_bpe(fields, spelled), byte_level, plain
        default_bos = False
    elif model == "llama":
        tokenizer, spelling, whole_spelling = _sentencepiece_bpe(fields, spelled, types), sentencepiece, sentencepiece
        default_bos = True
    else:
        raise ModelError(
            f"{fields.path} has a tokenizer of kind {model!r} (tokenizer.ggml.model), expected 'gpt2' or 'llama'; "
            "use a folder with the model's tokenizer.json instead"
        )
    tokenizer.add_special_tokens([AddedToken(disguise.spell(place), normalized=False) for place in controls.values()])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in whole])
    bos_id = fields.number("tokenizer.ggml.bos_token_id")
    special = SpecialTokens(
        controls=controls,
        whole={token: whole_spelling(token) for token in whole},
        end_ids=_end_ids(fields, controls, template),
        bos_id=bos_id if fields.flag("tokenizer.ggml.add_bos_token", default=default_bos) else None,
    )
    return Vocabulary(tokenizer, disguise, spelling, special)


def _byte_level_bpe(fields: _Fields, vocabulary: Mapping[str, int]) -> Tokenizer:
    merges = [tuple(merge.split(" ", 1)) for merge in fields.strings("tokenizer.ggml.merges")]
    cut = cut_for(fields.text("tokenizer.ggml.pre"))
    tokenizer = Tokenizer(BPE(dict(vocabulary), _pairs(fields, merges), ignore_merges=cut.ignore_merges))
    if cut.normalizer is not None:
        tokenizer.normalizer = cut.normalizer
    tokenizer.pre_tokenizer = cut.pre_tokenizer
    return tokenizer


def _sentencepiece_bpe(fields: _Fields, vocabulary: Mapping[str, int], types: Sequence[float]) -> Tokenizer:
    scores = fields.numbers("tokenizer.ggml.scores")
    if len(scores) != len(types):
        raise ModelError(f"{fields.path} has {len(types)} tokens but {len(scores)} scores; fetch the file again")
    # Tokens of the user's are found in the text as it is, before spaces are respelled.
    spaced = {
        token if types[place] == _USER_DEFINED else token.replace(" ", "\u2581"): place
        for token, place in vocabulary.items()
    }
    unknown = fields.number("tokenizer.ggml.unknown_token_id")
    unknown_token = None if unknown is None else next((t for t, place in spaced.items() if place == unknown), None)
    merges = _merges_by_score(spaced, scores)
    tokenizer = Tokenizer(BPE(spaced, merges, unk_token=unknown_token, fuse_unk=True, byte_fallback=True))
    prefix = fields.flag("tokenizer.ggml.add_space_prefix", default=True)
    tokenizer.pre_tokenizer = Metaspace(prepend_scheme="always" if prefix else "never", split=False)
    return tokenizer


def _merges_by_score(vocabulary: Mapping[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Return the merges that SentencePiece's scores imply: a pair may merge when the whole is a token, best first."""
    found = [
        (-scores[place], -cut, token[:cut], token[cut:])
        for token, place in vocabulary.items()
        for cut in range(1, len(token))
        if token[:cut] in vocabulary and token[cut:] in vocabulary
    ]
    found.sort(key=lambda merge: merge[:2])
    return [(left, right) for _, _, left, right in found]


def _end_ids(fields: _Fields, controls: Mapping[str, int], template: str) -> list[int]:
    keys = ("eos_token_id", "eot_token_id", "eom_token_id")
    declared = [fields.number(f"tokenizer.ggml.{key}") for key in keys]
    ends = [token_id for token_id in declared if token_id is not None] + turn_ends(controls, template)
    if not ends:
        raise ModelError(f"{fields.path} names no end token (tokenizer.ggml.eos_token_id); answers would never end")
    return ends


def _named_tokens(fields: _Fields, tokens: Sequence[str]) -> dict[str, str]:
    keys = {
        "bos_token": "bos_token_id",
        "eos_token": "eos_token_id",
        "unk_token": "unknown_token_id",
        "pad_token": "padding_token_id",
    }
    places = {name: fields.number(f"tokenizer.ggml.{key}") for name, key in keys.items()}
    return {name: tokens[place] for name, place in places.items() if place is not None and place < len(tokens)}


def _pairs(fields: _Fields, merges: Sequence[tuple[str, ...]]) -> list[tuple[str, str]]:
    for merge in merges:
        if len(merge) != 2:
            raise ModelError(f"{fields.path} has the merge {merge!r}, expected two pieces; fetch the file again")
    return [(merge[0], merge[1]) for merge in merges]
