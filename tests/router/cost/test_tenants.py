"""API keys: found by their digest, read again when the file changes, never told."""

import hashlib
import os
from pathlib import Path

import pytest

from headrace_router.cost.tenants import Keys, Tenant, parse_keys
from headrace_router.errors import ClientError, SettingsError

DIGEST = hashlib.sha256(b"secret").hexdigest()
FILE = f"keys:\n- {{name: anne, sha256: {DIGEST}, team: search, organisation: acme, admin: true}}\n"


def _keys(path: Path, text: str = FILE) -> Keys:
    path.write_text(text)
    keys = Keys(path)
    keys.load()
    return keys


def test_a_key_is_found_by_its_digest(tmp_path: Path) -> None:
    keys = _keys(tmp_path / "keys.yaml")
    assert keys.find(b"Bearer secret") == keys.find(b"bearer  secret ") == Tenant("anne", "search", "acme", admin=True)


@pytest.mark.parametrize("header", [b"", b"Bearer", b"Basic secret", b"Bearer Secret", b"Bearer " + DIGEST.encode()])
def test_what_is_no_key_is_refused_and_not_repeated(tmp_path: Path, header: bytes) -> None:
    keys = _keys(tmp_path / "keys.yaml")
    with pytest.raises(ClientError) as caught:
        keys.find(header)
    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")
    assert "secret" not in caught.value.message.lower()


def test_a_changed_file_is_read_again_and_a_broken_one_leaves_the_keys_in_force(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    keys = _keys(path)
    for broken in ("keys: [", "keys: 3"):
        _replace(path, broken)
        keys.poll()
        assert keys.find(b"Bearer secret").key == "anne"
    _replace(path, FILE.replace("anne", "bert"))
    keys.poll()
    assert keys.find(b"Bearer secret").key == "bert"
    path.unlink()
    keys.poll()
    assert keys.find(b"Bearer secret").key == "bert"


def _replace(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    os.replace(beside, path)  # noqa: PTH105 - as a Secret's volume does it


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keys:\n- {name: a, sha256: abc}\n", "keys.0.sha256"),
        (f"keys:\n- {{name: a b, sha256: {DIGEST}}}\n", "keys.0.name"),
        (f"keys:\n- {{name: a, sha256: {DIGEST}, key: x}}\n", "keys.0.key"),
        (f"keys:\n- {{name: a, sha256: {DIGEST}}}\n- {{name: b, sha256: {DIGEST}}}\n", "two keys of sha256"),
        ("[]", "the file"),
        ("a: [", "no YAML"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence_that_names_the_place(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        parse_keys(text.encode(), "keys.yaml")


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        Keys(tmp_path / "none").load()
