from collections.abc import Callable
from pathlib import Path

import pytest

from headrace_worker.errors import FetchError
from headrace_worker.fetch.index import DEFAULT_INDEX, index_settings, shown, with_credentials

pytestmark = pytest.mark.usefixtures("cache")
Written = Callable[[str, str], Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(name: str, text: str) -> Path:
        path = tmp_path / "home" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path / "home" / "config"), "XDG_CONFIG_DIRS": str(tmp_path / "none")}


def test_a_machine_that_says_nothing_uses_the_public_index(environ: dict[str, str]) -> None:
    assert index_settings({**environ, "PIP_CONFIG_FILE": "/dev/null"}).urls == (DEFAULT_INDEX,)


@pytest.mark.parametrize(
    ("variables", "urls"),
    [
        ({"PIP_INDEX_URL": "http://a.test/simple/"}, ("http://a.test/simple",)),
        ({"UV_INDEX_URL": "http://a.test/s", "PIP_INDEX_URL": "http://b.test/s"}, ("http://a.test/s",)),
        (
            {"UV_DEFAULT_INDEX": "my-index=http://a.test/s?x=1", "UV_INDEX_URL": "http://b.test"},
            ("http://a.test/s?x=1",),
        ),
        (
            {
                "PIP_INDEX_URL": "http://a.test",
                "PIP_EXTRA_INDEX_URL": "http://b.test http://a.test",
                "UV_INDEX": "c=http://c.test",
            },
            ("http://a.test", "http://c.test", "http://b.test"),
        ),
    ],
)
def test_variables_of_pip_and_uv_are_honoured(
    environ: dict[str, str], variables: dict[str, str], urls: tuple[str, ...]
) -> None:
    assert index_settings({**environ, **variables}).urls == urls


def test_pips_files_are_honoured_the_nearer_one_first(environ: dict[str, str], written: Written) -> None:
    written(
        ".pip/pip.conf", "[global]\nindex-url = http://far.test\nextra-index-url =\n  http://x.test\n  http://y.test\n"
    )
    written("config/pip/pip.conf", "[global]\nindex_url = http://near.test\ncert = /my.pem\n")
    settings = index_settings(environ)
    assert settings.urls == ("http://near.test", "http://x.test", "http://y.test")
    assert settings.certificates == "/my.pem"
    chosen = written("own.conf", "[download]\nindex-url = http://own.test\n")
    assert index_settings({**environ, "PIP_CONFIG_FILE": str(chosen)}).urls[0] == "http://own.test"
    assert index_settings({**environ, "PIP_CERT": "/other.pem"}).certificates == "/other.pem"


@pytest.mark.parametrize(
    "text", ['index-url = "http://uv.test/s"', '[[index]]\nname = "n"\nurl = "http://uv.test/s"\ndefault = true']
)
def test_uvs_file_is_honoured(environ: dict[str, str], written: Written, text: str) -> None:
    written("config/uv/uv.toml", text)
    assert index_settings({**environ, "PIP_CONFIG_FILE": "/dev/null"}).urls == ("http://uv.test/s",)


def test_a_broken_file_is_named(environ: dict[str, str], written: Written) -> None:
    path = written("config/pip/pip.conf", "index-url = no section")
    with pytest.raises(FetchError, match=f"{path} is no pip configuration"):
        index_settings(environ)
    path.write_text("")
    written("config/uv/uv.toml", "index-url = ")
    with pytest.raises(FetchError, match=r"uv\.toml is no uv configuration"):
        index_settings({**environ, "PIP_CONFIG_FILE": "/dev/null"})


def test_credentials_come_from_the_url_the_index_or_netrc(written: Written) -> None:
    netrc = written(".netrc", "machine n.test login me password p@ss\n")
    netrc.chmod(0o600)
    assert with_credentials("http://u:p@n.test/s", {}) == "http://u:p@n.test/s"
    assert with_credentials("http://n.test/s", {}) == "http://me:p%40ss@n.test/s"
    assert with_credentials("http://a.test:1/f", {}, like="http://u:p@a.test:1/s") == "http://u:p@a.test:1/f"
    assert with_credentials("http://b.test/f", {}, like="http://u:p@a.test/s") == "http://b.test/f"
    assert with_credentials("http://n.test/s", {"NETRC": "/no/netrc"}) == "http://n.test/s"


def test_a_broken_netrc_is_named(written: Written) -> None:
    path = written("broken", "garbage x")
    with pytest.raises(FetchError, match=f"{path} cannot be read for credentials"):
        with_credentials("http://n.test/s", {"NETRC": str(path)})


def test_a_shown_url_has_no_secret() -> None:
    assert shown("https://user:pass@a.test:8443/simple/x?signature=s#f") == "https://a.test:8443/simple/x"
