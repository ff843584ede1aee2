"""The program that runs Ray's head, by itself."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.workers.parallel.rig import eventually

pytestmark = pytest.mark.processes
HOST = "127.0.0.1"
START_S = 300.0


def test_a_head_starts_where_the_packages_of_rays_clients_are_not_installed(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden" / "grpc"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('hidden')")
    with socket.create_server((HOST, 0)) as probe:
        port = int(probe.getsockname()[1])
    folders = [str(hidden.parent), *filter(None, (os.environ.get("PYTHONPATH"),))]
    command = [sys.executable, "-m", "headrace_worker.parallel.node", "--head", "--address", HOST, "--port", str(port)]
    log = tmp_path / "log"
    with log.open("wb") as output:
        head = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stderr=output,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(folders), "HEADRACE_SECRET": "a secret"},
        )
    try:
        eventually(lambda: head.poll() is not None or _listens(port), "the head listens or ends", START_S)
        assert head.poll() is None, log.read_text()
    finally:
        head.communicate(timeout=60)
    assert head.returncode == 0


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1.0).close()
    except OSError:
        return False
    return True
