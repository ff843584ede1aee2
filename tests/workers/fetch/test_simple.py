import json

import pytest

from headrace_worker.errors import FetchError
from headrace_worker.fetch.simple import File, choose_wheel, parse_files

BASE = "http://i.test/simple/d/"


def wheel(version: str, *, tag: str = "py3-none-any", yanked: bool = False) -> File:
    name = f"d-{version}-{tag}.whl"
    return File(name, BASE + name, None, yanked=yanked)


def test_json_and_page_list_the_same_files() -> None:
    body = {
        "files": [
            {"filename": "d-1-py3-none-any.whl", "url": "../../f/d-1-py3-none-any.whl", "hashes": {"sha256": "ab"}},
            {"filename": "d-2.tar.gz", "url": "http://f.test/d-2.tar.gz", "hashes": {}, "yanked": "bad"},
        ]
    }
    page = (
        '<a href="../../f/d-1-py3-none-any.whl#sha256=ab">d-1-py3-none-any.whl</a>'
        '<a href="http://f.test/d-2.tar.gz" data-yanked="bad">d-2.tar.gz</a><a name="x">none</a>'
    )
    expected = [
        File("d-1-py3-none-any.whl", "http://i.test/f/d-1-py3-none-any.whl", "ab"),
        File("d-2.tar.gz", "http://f.test/d-2.tar.gz", None, yanked=True),
    ]
    assert (
        parse_files(json.dumps(body).encode(), "application/vnd.pypi.simple.v1+json; charset=utf-8", BASE) == expected
    )
    assert parse_files(page.encode(), "text/html", BASE) == expected


@pytest.mark.parametrize(
    ("files", "version", "chosen"),
    [
        ([wheel("1.9"), wheel("1.10"), wheel("1.2")], None, "1.10"),
        ([wheel("1"), wheel("2", yanked=True), wheel("3rc1")], None, "1"),
        ([wheel("3rc1")], None, "3rc1"),
        ([wheel("1.0"), wheel("2", yanked=True)], "2.0", "2"),
        ([wheel("1"), wheel("2", tag="cp311-cp311-linux_x86_64")], None, "1"),
    ],
)
def test_the_newest_final_wheel_for_any_platform_is_taken(files: list[File], version: str | None, chosen: str) -> None:
    file, found = choose_wheel(files, "d", version)
    assert str(found) == chosen
    assert file.name.startswith(f"d-{chosen}-")


@pytest.mark.parametrize(
    ("files", "version", "sentence"),
    [
        ([File("d-1.tar.gz", "", None)], None, "has 1 files of d but no wheel for any platform of d; .*: none"),
        ([wheel("1"), wheel("2")], "3", "of d==3; versions with one: 1, 2"),
        ([wheel("1")], "latest", "'latest' is no version"),
        ([File("odd.whl", "", None)], None, "versions with one: none"),
    ],
)
def test_without_a_wheel_the_versions_that_have_one_are_named(
    files: list[File], version: str | None, sentence: str
) -> None:
    with pytest.raises(FetchError, match=sentence):
        choose_wheel(files, "d", version)
