"""An archive with the last layer alone, as a node's containerd reads it."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from e2e.images.archive import archive, layer_of
from e2e.images.load import CODE

ROOT = Path(__file__).parents[2]
PRESENT = {"sha256:aa": 10, "sha256:bb": 20}
INSPECTED = {
    "Architecture": "amd64",
    "Os": "linux",
    "Config": {"Env": ["A=1"], "Entrypoint": ["python3"], "Cmd": None, "User": "65532:65532", "Hostname": "x"},
}


@pytest.fixture
def files() -> dict[str, bytes]:
    return unpack(archive("localhost/part:1", INSPECTED, PRESENT, b"layer"))


def unpack(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as packed:
        return {entry.name: read(packed, entry) for entry in packed}


def read(packed: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = packed.extractfile(entry)
    return b"" if file is None else file.read()


def blob(files: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    content = files[f"blobs/{descriptor['digest'].replace(':', '/')}"]
    assert len(content) == descriptor["size"]
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == descriptor["digest"]
    return content


def test_every_layer_is_named_and_only_the_last_one_travels(files: dict[str, bytes]) -> None:
    (top,) = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(blob(files, top))
    assert [(layer["digest"], layer["size"]) for layer in manifest["layers"][:-1]] == list(PRESENT.items())
    assert blob(files, manifest["layers"][-1]) == b"layer"
    assert len(files) == 5  # layout, index, manifest, configuration, layer


def test_a_container_of_it_is_started_as_docker_would_start_it(files: dict[str, bytes]) -> None:
    (top,) = json.loads(files["index.json"])["manifests"]
    config = json.loads(blob(files, json.loads(blob(files, top))["config"]))
    assert config["config"] == {"Env": ["A=1"], "Entrypoint": ["python3"], "User": "65532:65532"}
    assert config["rootfs"]["diff_ids"] == [*PRESENT, f"sha256:{hashlib.sha256(b'layer').hexdigest()}"]


def test_containerd_finds_the_name_where_it_looks_for_it(files: dict[str, bytes]) -> None:
    (top,) = json.loads(files["index.json"])["manifests"]
    assert top["annotations"] == {"io.containerd.image.name": "localhost/part:1"}


def test_a_layer_holds_a_folder_at_its_place_owned_by_root(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "main.py").write_text("print()")
    with tarfile.open(fileobj=io.BytesIO(layer_of(tmp_path, "/opt/headrace/code"))) as packed:
        names = {entry.name: (entry.uid, entry.gid, entry.uname) for entry in packed}
    assert names.keys() == {f"opt/headrace/code{rest}" for rest in ("", "/package", "/package/main.py")}
    assert set(names.values()) == {(0, 0, "")}


@pytest.mark.parametrize("part", ["operator", "router", "worker"])
def test_the_last_layer_of_each_of_our_images_is_its_code(part: str) -> None:
    text = (ROOT / "images" / "Dockerfile").read_text()
    stage = text.partition(f" AS {part}\n")[2].partition("\nFROM ")[0]
    changing = [line for line in stage.splitlines() if line.startswith(("COPY", "RUN", "ADD", "WORKDIR"))]
    assert changing[-1] == f"COPY --from={part}-code {CODE} {Path(CODE).name}"
