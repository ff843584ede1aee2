"""Copies of what containerd keeps: by links, but for what it writes in place."""

import subprocess
from pathlib import Path

from e2e.cluster import node
from e2e.cluster.store import copy_script, last_kept, store_key


def test_a_copy_shares_layers_and_has_databases_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "key" / "snapshots").mkdir(parents=True)
    layer, database = tmp_path / "key" / "snapshots" / "file", tmp_path / "key" / "meta.db"
    layer.write_text("layer")
    database.write_text("database")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "left").write_text("by the last node")

    subprocess.run(["sh", "-ec", copy_script("key").replace("/store", str(tmp_path))], check=True, timeout=30)

    assert (tmp_path / "run" / "snapshots" / "file").samefile(layer)
    assert not (tmp_path / "run" / "meta.db").samefile(database)
    assert (tmp_path / "run" / "meta.db").read_text() == "database"
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["meta.db", "snapshots"]


def test_what_is_kept_serves_all_images_whose_last_layers_alone_differ() -> None:
    key = store_key("node", [["base", "packages", "code"]])
    assert key == store_key("node", [["base", "packages", "other code"]])
    assert key != store_key("node", [["base", "other packages", "code"]])
    assert key != store_key("other node", [["base", "packages", "code"]])


def test_a_node_takes_what_was_kept_last_for_its_image_and_no_draft() -> None:
    other, draft, mine = store_key("other", []), store_key("node", [["a", "b"]]), store_key("node", [])
    assert last_kept([other, f"{draft}.new", mine], "node") == mine
    assert last_kept([other, f"{draft}.new"], "node") is None


def test_only_our_own_volumes_that_no_claim_holds_are_made_anew() -> None:
    volumes = [
        {**node.volume("volume-0", "node", 1), "status": {"phase": "Available"}},
        {**node.volume("volume-1", "node", 1), "status": {"phase": "Bound"}},
        {**node.volume("volume-2", "node", 1), "status": {"phase": "Released"}},
        {"metadata": {"name": "other"}, "spec": {"nfs": {}}, "status": {"phase": "Available"}},
        {"metadata": {"name": "local"}, "spec": {"local": {"path": "/elsewhere"}}, "status": {"phase": "Available"}},
    ]
    assert node.free_volumes(volumes) == ["volume-0", "volume-2"]


def test_a_volume_made_anew_holds_the_seed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "seed" / "pypi").mkdir(parents=True)
    (tmp_path / "seed" / "pypi" / "model").write_text("weights")
    (tmp_path / "volumes" / "volume-0" / "headrace" / "old").mkdir(parents=True)
    script = node.refill_script("volume-0").replace(node.SEED_FOLDER, str(tmp_path / "seed"))
    script = script.replace(node.VOLUMES_FOLDER, str(tmp_path / "volumes"))

    subprocess.run(["sh", "-ec", script], check=True, timeout=30)

    volume = tmp_path / "volumes" / "volume-0"
    assert (volume / "headrace" / "pypi" / "model").samefile(tmp_path / "seed" / "pypi" / "model")
    assert not (volume / "headrace" / "old").exists()
    assert volume.stat().st_mode & 0o777 == 0o777
