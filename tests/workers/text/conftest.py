from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest

WriteGguf = Callable[..., Path]
CONTROL, USER_DEFINED, NORMAL, UNKNOWN, BYTE = 3, 4, 1, 2, 6


def byte_characters() -> list[str]:
    """Return the 256 characters of a byte-level vocabulary, each byte's at its place."""
    printable = [byte for byte in range(256) if 33 <= byte <= 126 or 161 <= byte <= 172 or byte >= 174]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def byte_level_fields() -> dict[str, Any]:
    """Return a byte-level vocabulary with a few merges, two control tokens, one token that is taken whole."""
    words = ["Ġt", "he", "Ġthe", "in", "Ġa", "ll", "llo", "hello", "im", "|>", "<|", "12"]
    merges = ["Ġ t", "h e", "Ġt he", "i n", "Ġ a", "l l", "ll o", "he llo", "i m", "| >", "< |", "1 2"]
    tokens = ["<|im_start|>", "<|im_end|>", *byte_characters(), *words, "<think>"]
    return {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": tokens,
        "types": [CONTROL, CONTROL, *[NORMAL] * (len(tokens) - 3), USER_DEFINED],
        "merges": merges,
        "bos": 0,
        "eos": 1,
    }


def sentencepiece_fields() -> dict[str, Any]:
    """Return a SentencePiece vocabulary with byte tokens; longer words have better scores."""
    words = [
        "▁",
        "a",
        "b",
        "c",
        "h",
        "e",
        "l",
        "o",
        "t",
        "▁t",
        "he",
        "▁the",
        "▁he",
        "ll",
        "llo",
        "hello",
        "▁hello",
        "ab",
    ]
    words += ["abc", "bc", "▁▁", "▁a", "to", "ot", "é"]
    tokens = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)], *words]
    ranks = sorted(words, key=len)
    scores = [0.0] * 259 + [float(ranks.index(word) - len(words)) for word in words]
    return {
        "model": "llama",
        "tokens": tokens,
        "types": [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(words)],
        "scores": scores,
        "bos": 1,
        "eos": 2,
        "unk": 0,
    }


@pytest.fixture
def write_gguf(tmp_path: Path) -> WriteGguf:
    def write(fields: dict[str, Any], **changes: Any) -> Path:
        path = tmp_path / "tiny.gguf"
        values = {**fields, **changes}
        writer = gguf.GGUFWriter(path, "llama")
        adders: dict[str, Callable[[Any], None]] = {
            "model": writer.add_tokenizer_model,
            "pre": writer.add_tokenizer_pre,
            "tokens": writer.add_token_list,
            "types": writer.add_token_types,
            "scores": writer.add_token_scores,
            "merges": writer.add_token_merges,
            "bos": writer.add_bos_token_id,
            "eos": writer.add_eos_token_id,
            "unk": writer.add_unk_token_id,
            "add_bos": writer.add_add_bos_token,
            "space_prefix": writer.add_add_space_prefix,
            "template": writer.add_chat_template,
        }
        for name, value in values.items():
            if value is not None:
                adders[name](value)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write


@pytest.fixture
def byte_level() -> dict[str, Any]:
    return byte_level_fields()


@pytest.fixture
def sentencepiece() -> dict[str, Any]:
    return sentencepiece_fields()
