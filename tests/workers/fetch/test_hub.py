import hashlib
from pathlib import Path
from typing import Any

import pytest

from headrace_worker.errors import FetchError
from headrace_worker.fetch import resolve
from headrace_worker.fetch.hub import HubFile, choose

pytestmark = pytest.mark.usefixtures("cache")
COMMIT = "c0ffee" * 6 + "c0ff"
FOLDER = {
    "README.md": b"read me",
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b"{}",
    "model.safetensors": b"w" * 300_000,
    "consolidated.safetensors": b"again",
    "pytorch_model.bin": b"pickle",
    "onnx/model.safetensors": b"other",
}


def test_the_files_that_a_model_needs_are_fetched_and_no_others(hub: Any, cache: Path) -> None:
    hub.publish(FOLDER)
    reports: list[tuple[int, int]] = []
    found = resolve("hf://org/name", progress=lambda done, total: reports.append((done, total)))
    names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(file.name for file in found.path.iterdir()) == names
    assert all((found.path / name).read_bytes() == FOLDER[name] for name in names)
    assert found.revision == f"hf:org/name@{COMMIT}"
    assert found.path.is_relative_to(cache)
    total = sum(len(FOLDER[name]) for name in names)
    assert reports[-1] == (total, total)
    assert reports == sorted(reports)


def test_a_second_start_asks_nobody(hub: Any) -> None:
    hub.publish(FOLDER)
    first = resolve("hf://org/name")
    asked = len(hub.server.seen)
    assert resolve("hf://org/name") == first
    assert len(hub.server.seen) == asked


@pytest.mark.parametrize("source", ["argument", "variable", "file"])
def test_a_private_model_is_fetched_with_the_token_and_the_store_never_sees_it(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    hub.publish(FOLDER, token="hf_s3cret")
    if source == "variable":
        monkeypatch.setenv("HF_TOKEN", "hf_s3cret")
    elif source == "file":
        (tmp_path / "token").write_text("hf_s3cret\n")
        monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    found = resolve("hf://org/name", token="hf_s3cret" if source == "argument" else None)
    assert (found.path / "model.safetensors").read_bytes() == FOLDER["model.safetensors"]
    assert all("authorization" not in seen.headers for seen in hub.store.seen)


def test_without_the_token_the_error_says_which_one_it_needs(hub: Any) -> None:
    hub.publish(FOLDER, token="hf_s3cret")
    with pytest.raises(FetchError, match=r"org/name@main on http.*refused \(HTTP 401\).*HTTP|HF_TOKEN") as refusal:
        resolve("hf://org/name", token="hf_wrong")
    assert "hf_wrong" not in str(refusal.value)


def test_a_revision_is_followed_to_its_commit(hub: Any) -> None:
    hub.publish(FOLDER, revision="v2.0")
    assert resolve("hf://org/name@v2.0").revision == f"hf:org/name@{COMMIT}"
    with pytest.raises(FetchError, match=r"org/name@main on .*: not found \(HTTP 404\)"):
        resolve("hf://org/name")


def test_one_gguf_file_can_be_named(hub: Any) -> None:
    hub.publish({"a.gguf": b"GGUFa", "sub/b.gguf": b"GGUFb"})
    found = resolve("hf://org/name/sub/b.gguf")
    assert found.path.read_bytes() == b"GGUFb"
    assert found.path.suffix == ".gguf"
    assert found.revision == f"hf:org/name@{COMMIT}:sub/b.gguf"
    assert resolve("hf://org/name@main/a.gguf").path.read_bytes() == b"GGUFa"


def test_a_cut_off_file_is_resumed_and_finished_ones_are_not_fetched_again(hub: Any) -> None:
    hub.publish(FOLDER)
    digest = hashlib.sha256(FOLDER["model.safetensors"]).hexdigest()
    hub.store.answers[f"/{digest}"].cuts.append(100_000)
    path = resolve("hf://org/name").path
    assert (path / "model.safetensors").read_bytes() == FOLDER["model.safetensors"]
    assert hub.store.sent_bytes == len(FOLDER["model.safetensors"])
    (path / "tokenizer.json").unlink()
    asked = len(hub.server.seen)
    resolve("hf://org/name")
    assert [seen.path.rpartition("/")[2] for seen in hub.server.seen[asked:]] == ["main?blobs=true", "tokenizer.json"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_is_not_the_one_the_hub_lists_is_refused(hub: Any, name: str) -> None:
    hub.publish(FOLDER)
    changed = b"x" * len(FOLDER[name])
    digest = hashlib.sha256(FOLDER[name]).hexdigest()
    answers, path = (hub.store.answers, f"/{digest}")
    if name == "config.json":
        answers, path = hub.server.answers, f"/org/name/resolve/{COMMIT}/{name}"
    answers[path].body = changed
    with pytest.raises(FetchError, match=f"{name} of org/name@.*, expected .*deleted"):
        resolve("hf://org/name")


def test_an_answer_of_something_else_is_a_sentence(hub: Any, answer: Any) -> None:
    hub.server.answers["/api/models/org/name/revision/main"] = answer(b'{"error": "?"}')
    with pytest.raises(FetchError, match=r"describes no repository .* check HF_ENDPOINT"):
        resolve("hf://org/name")


@pytest.mark.parametrize("uri", ["hf://name", "hf://org/name/x.bin", "hf://org/name@", "hf://"])
def test_a_malformed_uri_is_a_sentence(hub: Any, uri: str) -> None:
    with pytest.raises(FetchError, match="malformed, expected hf://org/name"):
        resolve(uri)
    assert hub.server.seen == []


def files(*names: str) -> list[HubFile]:
    return [HubFile(name, 1, None, None) for name in names]


@pytest.mark.parametrize(
    ("names", "wanted", "chosen"),
    [
        (["a.gguf", "README.md"], None, ["a.gguf"]),
        (["weights.safetensors", "config.json"], None, ["config.json", "weights.safetensors"]),
        (
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"],
            None,
            ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ),
    ],
)
def test_the_files_of_a_model_are_known_by_name(names: list[str], wanted: str | None, chosen: list[str]) -> None:
    assert [file.name for file in choose(files(*names), wanted, "o/n")] == chosen


@pytest.mark.parametrize(
    ("names", "wanted", "sentence"),
    [
        (["a.gguf", "b.gguf"], None, r"several models \(a.gguf, b.gguf\); name one: hf://o/n/file.gguf"),
        (["a.gguf"], "c.gguf", "no file 'c.gguf'; its .gguf files are: a.gguf"),
        (["pytorch_model.bin"], None, "neither safetensors nor .gguf; weights in pickle"),
        (["a-00001-of-00003.gguf"], None, "one part of a split model"),
    ],
)
def test_a_repository_without_one_clear_model_is_refused(names: list[str], wanted: str | None, sentence: str) -> None:
    with pytest.raises(FetchError, match=sentence):
        choose(files(*names), wanted, "o/n")
