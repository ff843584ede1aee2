"""A tiny model's text files, made here, and requests and outputs over them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace_api.frames import Token
from headrace_worker.server.ask import Ask, check
from headrace_worker.server.fields import ChatBody, CompletionBody
from headrace_worker.server.parse import parse
from headrace_worker.server.served import ServedModel
from headrace_worker.text import load_text

CONTEXT = 256
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROLS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def _byte_letters() -> list[str]:
    """Return the printable stand-in of each byte, as byte-level tokenizers spell it."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) if byte in plain else chr(256 + others.index(byte)) for byte in range(256)]


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose token id b is the byte b, 256 is ` th`, and 257 to 259 are control tokens."""
    path = tmp_path_factory.mktemp("model")
    vocab = {letter: byte for byte, letter in enumerate(_byte_letters())} | {"Ġth": 256}
    added = [
        {"id": 257 + at, "content": text, "special": True, "normalized": False, "lstrip": False, "rstrip": False,
         "single_word": False}
        for at, text in enumerate(CONTROLS)
    ]  # fmt: skip
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": level,
        "decoder": level,
        "model": {"type": "BPE", "vocab": vocab, "merges": [], "fuse_unk": False, "byte_fallback": False},
    }
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "chat_template": TEMPLATE}))
    (path / "config.json").write_text(json.dumps({"eos_token_id": 259}))
    return path


@pytest.fixture(scope="session")
def model(model_dir: Path) -> ServedModel:
    vocabulary, template = load_text(model_dir)
    return ServedModel("tiny", vocabulary, template, CONTEXT, "headrace-test")


@pytest.fixture
def chat(model: ServedModel) -> Callable[..., Ask]:
    """Check a chat request; keyword arguments are its fields."""

    def make(**fields: Any) -> Ask:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], **fields}
        return check(parse(ChatBody, msgspec.json.encode(body)), model)

    return make


@pytest.fixture
def completion(model: ServedModel) -> Callable[..., Ask]:
    """Check a completion request; keyword arguments are its fields."""

    def make(**fields: Any) -> Ask:
        body = {"model": "tiny", "prompt": "hi", **fields}
        return check(parse(CompletionBody, msgspec.json.encode(body)), model)

    return make


@pytest.fixture
def spoken() -> Callable[..., tuple[Token, ...]]:
    """Return the tokens of a text, each with `top` alternatives."""

    def make(text: str | bytes, top: int = 0) -> tuple[Token, ...]:
        data = text.encode() if isinstance(text, str) else text
        return tuple(
            Token(byte, -0.5, 1.0, tuple(((byte + step) % 256, -0.5 - step) for step in range(top))) for byte in data
        )

    return make
