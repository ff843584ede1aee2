"""The vocabulary and chat template of a model folder in the Hugging Face layout."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from headrace_worker.errors import ModelError
from headrace_worker.text.pieces import Spelling, byte_level, plain, sentencepiece
from headrace_worker.text.template import ChatTemplate, turn_ends
from headrace_worker.text.vocabulary import Disguise, SpecialTokens, Vocabulary

_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


def load_folder(path: Path, source: str | None = None) -> tuple[Vocabulary, ChatTemplate | None]:
    """Return the vocabulary and, where there is one, the chat template; raise ModelError on what is unknown.

    Args:
        path: the folder.
        source: of the chat template, in place of the folder's own.
    """
    content = _read(path / "tokenizer.json")
    if content is None:
        raise ModelError(f"{path} has no tokenizer.json, expected one beside the weights; fetch the whole model")
    config = _read(path / "tokenizer_config.json") or {}
    found = source or _template_source(path, config)
    template = None if found is None else ChatTemplate(found, _named_tokens(path, config))
    return _vocabulary(path, content, config, source or ""), template


def _vocabulary(path: Path, content: dict[str, Any], config: Mapping[str, Any], template: str) -> Vocabulary:
    spelling = _spelling(path, content)
    added: list[dict[str, Any]] = content.get("added_tokens") or []
    controls = {token["content"]: int(token["id"]) for token in added if token.get("special")}
    whole_spelling = plain if spelling is byte_level else spelling
    whole = {token["content"]: whole_spelling(token["content"]) for token in added if not token.get("special")}
    disguise = Disguise()
    tokenizer = _tokenizer(path, _disguised(content, {text: disguise.spell(place) for text, place in controls.items()}))
    for text, place in controls.items():
        found = tokenizer.token_to_id(disguise.spell(place))
        if found != place:
            raise ModelError(f"{path}/tokenizer.json gives {text!r} the id {place}, the tokenizer gives it {found}")
    starts = tokenizer.encode("", add_special_tokens=True).ids
    return Vocabulary(
        tokenizer,
        disguise,
        spelling,
        SpecialTokens(
            controls=controls,
            whole=whole,
            end_ids=[*_end_ids(path, config, tokenizer, controls), *turn_ends(controls, template)],
            bos_id=_bos_id(config, controls, starts),
        ),
    )


def _disguised(content: dict[str, Any], disguises: Mapping[str, str]) -> dict[str, Any]:
    """Return tokenizer.json with its control tokens respelled, so that no text of a client's can spell them."""
    model = dict(content["model"])
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        model["vocab"] = {disguises.get(token, token): place for token, place in vocabulary.items()}
    elif isinstance(vocabulary, list):
        model["vocab"] = [[disguises.get(token, token), score] for token, score in vocabulary]
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = disguises.get(model["unk_token"], model["unk_token"])
    added = [
        {**token, "content": disguises[token["content"]], "normalized": False} if token.get("special") else token
        for token in content.get("added_tokens") or []
    ]
    return {**content, "model": model, "added_tokens": added, "truncation": None, "padding": None}


def _tokenizer(path: Path, content: dict[str, Any]) -> Tokenizer:
    try:
        return Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # the tokenizers package raises bare Exception
        raise ModelError(f"{path}/tokenizer.json is no tokenizer this worker knows: {error}") from error


def _spelling(path: Path, content: Mapping[str, Any]) -> Spelling:
    """Return how tokens spell bytes, by the decoder (or pre-tokenizer) that the file names."""
    kinds = {*_kinds(content.get("decoder")), *_kinds(content.get("pre_tokenizer"))}
    if "ByteLevel" in kinds:
        return byte_level
    if kinds & {"ByteFallback", "Metaspace"}:
        return sentencepiece
    raise ModelError(
        f"{path}/tokenizer.json decodes by {sorted(kinds) or 'nothing'}, expected ByteLevel, ByteFallback or Metaspace"
    )


def _kinds(part: Mapping[str, Any] | None) -> list[str]:
    if not part:
        return []
    nested = part.get("decoders") or part.get("pretokenizers") or []
    return [str(part.get("type")), *(kind for inner in nested for kind in _kinds(inner))]


def _bos_id(config: Mapping[str, Any], controls: Mapping[str, int], starts: list[int]) -> int | None:
    if starts and starts[0] in controls.values():
        return starts[0]
    return controls.get(_text(config.get("bos_token")) or "") if config.get("add_bos_token") is True else None


def _end_ids(path: Path, config: Mapping[str, Any], tokenizer: Tokenizer, controls: Mapping[str, int]) -> list[int]:
    ends = _declared_ends(path / "generation_config.json") or _declared_ends(path / "config.json")
    text = _text(config.get("eos_token"))
    if text is not None:
        end = controls[text] if text in controls else tokenizer.token_to_id(text)
        ends += [] if end is None else [end]
    if not ends:
        raise ModelError(
            f"{path} names no end token (eos_token_id in generation_config.json or config.json, eos_token in "
            "tokenizer_config.json); answers would never end"
        )
    return ends


def _declared_ends(path: Path) -> list[int]:
    declared = (_read(path) or {}).get("eos_token_id")
    return [end for end in (declared if isinstance(declared, list) else [declared]) if isinstance(end, int)]


def _template_source(path: Path, config: Mapping[str, Any]) -> str | None:
    file = path / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    source = config.get("chat_template")
    if isinstance(source, list):
        named = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)}
        source = named.get("default")
    return source if isinstance(source, str) else None


def _named_tokens(path: Path, config: Mapping[str, Any]) -> dict[str, str]:
    declared = {**(_read(path / "special_tokens_map.json") or {}), **config}
    named = {name: _text(declared.get(name)) for name in _NAMED}
    return {name: text for name, text in named.items() if text is not None}


def _text(token: object) -> str | None:
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}); fetch the model again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}, expected a JSON object; fetch the model again")
    return content
