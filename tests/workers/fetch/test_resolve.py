from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from headrace_worker.errors import FetchError
from headrace_worker.fetch import cache as cache_module
from headrace_worker.fetch import cache_root, resolve
from headrace_worker.fetch.cache import Cache

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "my model"
    path.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (path / name).write_bytes(name.encode())
    return path


def test_a_file_is_used_where_it_lies(tmp_path: Path, digest: Callable[[bytes], str]) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF")
    reports: list[tuple[int, int]] = []
    found = resolve(f"file://{path}", progress=lambda done, total: reports.append((done, total)))
    assert found.path == path
    content = digest(b"GGUF")
    assert found.revision == f"sha256:{digest(f' {content}'.encode() + bytes([10]))}"
    assert reports == [(4, 4)]


def test_the_revision_of_a_folder_names_its_content(model: Path, tmp_path: Path) -> None:
    first = resolve(f"file://{model}".replace(" ", "%20"))
    assert first.path == model
    twin = model.rename(tmp_path / "twin")
    assert resolve(f"file://{twin}").revision == first.revision
    (twin / "model.safetensors").write_bytes(b"other weights")
    assert resolve(f"file://{twin}").revision != first.revision


def test_a_file_is_read_once_for_its_revision(model: Path) -> None:
    reports: list[tuple[int, int]] = []
    first = resolve(f"file://{model}", progress=lambda done, total: reports.append((done, total)))
    total = sum(file.stat().st_size for file in model.iterdir())
    assert reports[-1] == (total, total)
    reports.clear()
    assert resolve(f"file://{model}", progress=lambda done, total: reports.append((done, total))) == first
    assert reports == []


def test_a_folder_with_one_gguf_means_that_file(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    assert resolve(f"file://{tmp_path}").path == tmp_path / "a.gguf"
    (tmp_path / "b.gguf").write_bytes(b"GGUF")
    with pytest.raises(FetchError, match=r"of \.gguf files a\.gguf, b\.gguf; name the one"):
        resolve(f"file://{tmp_path}")


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("file:///no/such/model", "/no/such/model does not exist"),
        ("file://relative/path", "names no absolute path"),
        ("file:///dev/null", "does not exist|plain file"),
        ("s3://bucket/x", "'s3://bucket/x' has no known scheme, expected file:///path"),
        ("SmolLM2", "'SmolLM2' has no known scheme"),
    ],
)
def test_a_uri_that_leads_nowhere_is_a_sentence(uri: str, sentence: str) -> None:
    with pytest.raises(FetchError, match=sentence):
        resolve(uri)


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(b"pickle")
    with pytest.raises(FetchError, match=r"is a \.bin file, expected \.gguf"):
        resolve(f"file://{tmp_path}/m.bin")


def test_the_cache_lies_where_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "headrace"
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_root() == Path.home() / ".cache" / "headrace"


def test_a_cache_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "headrace").write_text("a file in the way")
    with pytest.raises(FetchError, match=r"cannot be made .*; set XDG_CACHE_HOME"):
        Cache(tmp_path / "headrace").folder("pypi")


def test_a_lock_held_without_progress_ends_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_LOCK_POLL_S", 0.02)
    monkeypatch.setattr(cache_module, "_STALLED_S", 0.05)
    cache = Cache(tmp_path)
    with cache.locked("a"):
        (lock,) = (tmp_path / "locks").iterdir()
    with (
        FileLock(lock),
        pytest.raises(FetchError, match="without progress; end it"),
        cache.locked("a"),
    ):
        pytest.fail("the lock was free")


def test_records_that_are_damaged_are_as_good_as_none(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    file = cache.folder("x") / "a.gguf"
    file.write_bytes(b"GGUF")
    cache.keep("k", file, "r", [file])
    assert cache.find("k") == (file, "r")
    (record,) = (tmp_path / "resolved").iterdir()
    for damaged in ("", "[]", "{}", '{"path": "x/a.gguf", "revision": "r", "sizes": 1}'):
        record.write_text(damaged)
        assert cache.find("k") is None
