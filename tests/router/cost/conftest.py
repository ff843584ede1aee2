"""Stores to test on: SQLite always, a real Postgres where its programs are installed."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace_router.cost.store import Store, open_store

DEADLINE_S = 60
_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def _program(name: str) -> str | None:
    return next((str(folder / name) for folder in _FOLDERS if (folder / name).exists()), shutil.which(name))


def _unprivileged() -> int | None:
    """Return whom to run as instead of root, as whom Postgres refuses to."""
    return pwd.getpwnam("nobody").pw_uid if os.getuid() == 0 else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A connection string to a server of our own, on a socket in a folder of its own."""
    initdb, pg_ctl = _program("initdb"), _program("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("Postgres is not installed: initdb and pg_ctl are not found")
    nobody = _unprivileged()
    with tempfile.TemporaryDirectory(prefix="hr-pg-") as name:
        folder = Path(name)
        if nobody is not None:
            os.chown(folder, nobody, nobody)
        data = folder / "data"
        settings = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"

        def run(*command: str) -> None:
            done = subprocess.run(
                command,
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=DEADLINE_S,
                check=False,
                user=nobody,
                group=nobody,
            )
            assert done.returncode == 0, done.stderr + done.stdout

        run(initdb, "-D", str(data), "-U", "headrace", "-A", "trust", "--no-sync")
        run(pg_ctl, "-D", str(data), "-w", "-l", str(folder / "log"), "-o", settings, "start")
        try:
            yield f"host={folder} user=headrace dbname=postgres"
        finally:
            run(pg_ctl, "-D", str(data), "-m", "immediate", "-w", "stop")


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """What `--ledger` names, empty for each test."""
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path / 'ledger.db'}"
        return
    psycopg = pytest.importorskip("psycopg")
    server = request.getfixturevalue("postgres")
    database = f"t{abs(hash(request.node.nodeid)) % 10**9}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}")
    path = tmp_path / "dsn"
    path.write_text(f"{server.replace('dbname=postgres', f'dbname={database}')}\n")
    yield f"postgres:{path}"


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    """An open store."""
    made = open_store(place)
    yield made
    made.close()
