import errno
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace_worker.errors import FetchError
from headrace_worker.fetch.download import Downloads, Item, new_client

CONTENT = bytes(range(256)) * 4096
Digest = Callable[[bytes], str]


class Waits(list[float]):
    """A pause that does not wait and remembers what it was asked."""

    def __call__(self, wait_s: float) -> None:
        self.append(wait_s)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def downloads(waits: Waits) -> Iterator[Downloads]:
    with new_client(None) as client:
        yield Downloads(client, refused="Set TOKEN.", pause=waits)


def silent(_done: int, _total: int) -> None:
    """Report nothing."""


def test_a_file_arrives_whole_under_its_name_only(
    *, downloads: Downloads, server: Any, answer: Any, digest: Digest, tmp_path: Path
) -> None:
    server.answers["/f"] = answer(CONTENT)
    reports: list[tuple[int, int]] = []
    item = Item(f"{server.url}/f", "f", sha256=digest(CONTENT))
    path = downloads.file(item, tmp_path / "f", lambda done, total: reports.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["f"]
    assert reports[-1] == (len(CONTENT), len(CONTENT))
    assert reports == sorted(reports)


def test_a_download_that_is_cut_off_goes_on_where_it_stopped(
    *, downloads: Downloads, server: Any, answer: Any, digest: Digest, tmp_path: Path, waits: Waits
) -> None:
    server.answers["/f"] = answer(CONTENT, cuts=[300_000, 400_000], etag='"v1"')
    path = downloads.file(Item(f"{server.url}/f", "f", sha256=digest(CONTENT)), tmp_path / "f", silent)
    assert path.read_bytes() == CONTENT
    assert server.sent_bytes == len(CONTENT)
    ranges = [seen.headers.get("range") for seen in server.seen]
    assert ranges == [None, "bytes=300000-", "bytes=700000-"]
    assert server.seen[1].headers["if-range"] == '"v1"'
    assert len(waits) == 2


def test_a_later_process_takes_up_what_an_earlier_one_left(
    downloads: Downloads, server: Any, answer: Any, digest: Digest, tmp_path: Path
) -> None:
    (tmp_path / "f.part").write_bytes(CONTENT[:1000])
    server.answers["/f"] = answer(CONTENT)
    item = Item(f"{server.url}/f", "f", sha256=digest(CONTENT), size=len(CONTENT))
    assert downloads.file(item, tmp_path / "f", silent).read_bytes() == CONTENT
    assert server.sent_bytes == len(CONTENT) - 1000


def test_a_finished_part_needs_no_request(downloads: Downloads, server: Any, digest: Digest, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(CONTENT)
    item = Item(f"{server.url}/f", "f", sha256=digest(CONTENT), size=len(CONTENT))
    assert downloads.file(item, tmp_path / "f", silent).read_bytes() == CONTENT
    assert server.seen == []


@pytest.mark.parametrize("known", ["hash", "etag"])
def test_a_file_that_changed_in_between_is_fetched_from_the_start(
    *, downloads: Downloads, server: Any, answer: Any, digest: Digest, tmp_path: Path, known: str
) -> None:
    server.answers["/f"] = answer(b"old" * 1000, cuts=[300] * 7, etag='"old"', ranges=False)
    item = Item(f"{server.url}/f", "f", sha256=digest(CONTENT) if known == "hash" else None)
    with pytest.raises(FetchError):
        downloads.file(item, tmp_path / "f", silent)
    assert (tmp_path / "f.part").read_bytes() == (b"old" * 100)
    server.answers["/f"] = answer(CONTENT, etag='"new"')
    assert downloads.file(item, tmp_path / "f", silent).read_bytes() == CONTENT


def test_without_hash_or_tag_nothing_is_resumed(downloads: Downloads, server: Any, answer: Any, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(b"who knows what")
    server.answers["/f"] = answer(CONTENT)
    assert downloads.file(Item(f"{server.url}/f", "f"), tmp_path / "f", silent).read_bytes() == CONTENT
    assert "range" not in server.seen[0].headers


def test_a_corrupt_resumed_part_costs_one_fetch_from_the_start(
    downloads: Downloads, server: Any, answer: Any, digest: Digest, tmp_path: Path
) -> None:
    (tmp_path / "f.part").write_bytes(b"\xff" * 1000)
    server.answers["/f"] = answer(CONTENT)
    item = Item(f"{server.url}/f", "f", sha256=digest(CONTENT))
    assert downloads.file(item, tmp_path / "f", silent).read_bytes() == CONTENT
    assert [seen.headers.get("range") for seen in server.seen] == ["bytes=1000-", None]


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        ({"sha256": "0" * 64}, f"its sha256 is {hashlib.sha256(CONTENT).hexdigest()}, expected 0000"),
        ({"git_sha1": "0" * 40}, "its git object id is .*, expected 0000"),
        ({"size": 10}, f"it has {len(CONTENT)} bytes, expected 10"),
    ],
)
def test_a_corrupt_file_is_refused_and_not_kept(
    *, downloads: Downloads, server: Any, answer: Any, tmp_path: Path, item: dict[str, Any], sentence: str
) -> None:
    server.answers["/f"] = answer(CONTENT)
    with pytest.raises(FetchError, match=sentence):
        downloads.file(Item(f"{server.url}/f", "f", **item), tmp_path / "f", silent)
    assert list(tmp_path.iterdir()) == []


def test_a_git_object_id_is_checked_as_git_makes_it(
    downloads: Downloads, server: Any, answer: Any, tmp_path: Path
) -> None:
    server.answers["/f"] = answer(b"hello\n")
    item = Item(f"{server.url}/f", "f", git_sha1="ce013625030ba8dba906f756967f9e9ca394464a")
    assert downloads.file(item, tmp_path / "f", silent).read_bytes() == b"hello\n"


def test_a_server_that_is_busy_is_asked_again_when_it_says(
    *, downloads: Downloads, server: Any, answer: Any, waits: Waits, tmp_path: Path
) -> None:
    server.answers["/f"] = answer(status=503, headers={"retry-after": "7"})
    with pytest.raises(FetchError, match="HTTP 503, after 6 tries; check the network"):
        downloads.file(Item(f"{server.url}/f", "f"), tmp_path / "f", silent)
    assert waits == [7.0] * 5
    assert len(server.seen) == 6


def test_a_server_that_is_not_there_is_tried_with_growing_waits(
    downloads: Downloads, new_server: Callable[[], Any], waits: Waits, tmp_path: Path
) -> None:
    gone = new_server()
    gone.close()
    with pytest.raises(FetchError, match=r"cannot connect \(.*check the network and the proxy"):
        downloads.file(Item(f"{gone.url}/f", "f"), tmp_path / "f", silent)
    assert waits == sorted(waits)
    assert len(set(waits)) == len(waits) == 5


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, r"f: access was refused \(HTTP 401\). Set TOKEN."),
        (403, r"f: access was refused \(HTTP 403\). Set TOKEN."),
        (404, r"f: not found \(HTTP 404\); check the spelling"),
        (418, "f: the server answered HTTP 418"),
    ],
)
def test_a_refusal_says_what_to_do_at_once(
    *, downloads: Downloads, server: Any, answer: Any, waits: Waits, tmp_path: Path, status: int, sentence: str
) -> None:
    server.answers["/f"] = answer(status=status)
    with pytest.raises(FetchError, match=sentence):
        downloads.file(Item(f"{server.url}/f", "f"), tmp_path / "f", silent)
    assert waits == []


def test_an_address_that_is_none_is_a_sentence(downloads: Downloads, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="check that the address is right"):
        downloads.file(Item("ftp://127.0.0.1/f", "f"), tmp_path / "f", silent)


def test_a_file_larger_than_the_disk_is_not_begun(
    downloads: Downloads, server: Any, answer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr("headrace_worker.fetch.download.shutil.disk_usage", lambda _path: usage)
    server.answers["/f"] = answer(b"x" * (2 << 20))
    with pytest.raises(FetchError, match=r"needs 2 MiB more but .* has 1 MiB free; make room"):
        downloads.file(Item(f"{server.url}/f", "f"), tmp_path / "f", silent)


def test_a_disk_that_fills_up_keeps_the_part(
    downloads: Downloads, server: Any, answer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/f"] = answer(CONTENT)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("headrace_worker.fetch.download.os.fsync", full)
    with pytest.raises(FetchError, match="is full; make room or set XDG_CACHE_HOME"):
        downloads.file(Item(f"{server.url}/f", "f"), tmp_path / "f", silent)
    assert (tmp_path / "f.part").exists()


def test_a_folder_that_cannot_be_written_is_a_sentence(
    downloads: Downloads, server: Any, answer: Any, tmp_path: Path
) -> None:
    server.answers["/f"] = answer(CONTENT)
    with pytest.raises(FetchError, match=r"cannot be written"):
        downloads.file(Item(f"{server.url}/f", "f"), tmp_path / "missing" / "f", silent)


def test_the_token_does_not_follow_a_redirect_to_another_origin(
    downloads: Downloads, server: Any, new_server: Callable[[], Any], answer: Any, tmp_path: Path
) -> None:
    store = new_server()
    store.answers["/blob"] = answer(CONTENT)
    server.answers["/f"] = answer(status=302, headers={"location": f"{store.url}/blob"}, token="Bearer s3cret")
    item = Item(f"{server.url}/f", "f", headers={"authorization": "Bearer s3cret"})
    assert downloads.file(item, tmp_path / "f", silent).read_bytes() == CONTENT
    assert "authorization" not in store.seen[0].headers


def test_the_hash_that_a_redirect_states_is_checked(
    downloads: Downloads, server: Any, new_server: Callable[[], Any], answer: Any, tmp_path: Path
) -> None:
    store = new_server()
    store.answers["/blob"] = answer(CONTENT)
    moved = {"location": f"{store.url}/blob", "x-linked-etag": f'"{"0" * 64}"'}
    server.answers["/f"] = answer(status=302, headers=moved)
    with pytest.raises(FetchError, match="expected 0000"):
        downloads.file(Item(f"{server.url}/f", "f"), tmp_path / "f", silent)


def test_certificates_that_are_not_there_are_a_sentence() -> None:
    with pytest.raises(FetchError, match=r"/no/such\.pem cannot be loaded"):
        new_client("/no/such.pem")


def test_an_answer_that_is_no_json_is_a_sentence(downloads: Downloads, server: Any, answer: Any) -> None:
    server.answers["/j"] = answer(b"<html>")
    with pytest.raises(FetchError, match="j: the answer is no JSON"):
        downloads.json(f"{server.url}/j", "j", {})
