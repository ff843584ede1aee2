import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace_worker.errors import ModelError
from headrace_worker.models.header import read_header


def test_wanted_values_are_read_and_others_passed_over(
    write_gguf: Callable[..., Path], byte_level: dict[str, Any]
) -> None:
    path = write_gguf(byte_level, add_bos=True)
    keys = {"tokenizer.ggml.tokens", "tokenizer.ggml.add_bos_token", "tokenizer.ggml.eos_token_id"}
    assert read_header(path, keys.__contains__).values == {
        "tokenizer.ggml.tokens": byte_level["tokens"],
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.eos_token_id": 1,
    }


def test_a_file_cut_off_anywhere_in_its_header_is_refused(
    write_gguf: Callable[..., Path], byte_level: dict[str, Any]
) -> None:
    path = write_gguf(byte_level)
    whole = path.read_bytes()
    for size in range(1, len(whole) - 64, 97):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError, match="GGUF"):
            read_header(path, lambda _key: True)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "no GGUF file"),
        (b"PK\x03\x04 a wheel, say", "starts with b'PK"),
        (struct.pack("<4sIQQ", b"GGUF", 9, 0, 0), "version is 9"),
        (struct.pack("<4sIQQQ1sI", b"GGUF", 3, 0, 1, 1, b"k", 77), "type 77"),
        (struct.pack("<4sIQQQ1sIIQ", b"GGUF", 3, 0, 1, 1, b"k", 9, 4, 1 << 60), "breaks inside"),
    ],
)
def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=sentence):
        read_header(path, lambda _key: True)


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        read_header(tmp_path, lambda _key: True)
