"""The container engine that kind needs: the machine's own where it runs, else a Docker daemon that we start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
from e2e.cluster import network, processes, runtime
from e2e.cluster.command import Progress, capture
from e2e.cluster.deadline import wait_until
from e2e.cluster.debian import ENGINE_TOOLS, ensure_tools
from e2e.cluster.errors import ClusterError, CommandError, MissingError, StartError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from e2e.cluster.home import Home
    from e2e.cluster.processes import Daemon

_START_TIMEOUT_S: Final = 60.0
_GRACE_S: Final = 30.0
_MAX_SOCKET_PATH: Final = 100
_CGROUPS: Final = Path("/sys/fs/cgroup")
_FORWARDING: Final = Path("/proc/sys/net/ipv4/ip_forward")


class Engine:
    """Docker, reached by the environment that `environment` gives to every program that calls it.

    Args:
        home: Where our own daemon keeps images (`engine`) and its socket (`run`).
        socket: The socket of our own daemon, or None for the machine's own.
    """

    def __init__(self, home: Home, socket: Path | None) -> None:
        self._home = home
        self._socket = socket

    @property
    def environment(self) -> Mapping[str, str]:
        """What programs must find in their environment to reach this engine."""
        return {} if self._socket is None else {"DOCKER_HOST": f"unix://{self._socket}"}

    def docker(self, *arguments: str, timeout_s: float = 60.0) -> str:
        """Run one docker command and return what it printed."""
        return capture(["docker", *arguments], timeout_s=timeout_s, environment=self.environment)

    def answers(self) -> bool:
        """Say whether a daemon answers."""
        try:
            return self.docker("info", "--format", "{{.ServerVersion}}", timeout_s=15).strip() != ""
        except (CommandError, MissingError):
            return False

    def has_image(self, name: str) -> bool:
        """Say whether the engine holds an image of this name."""
        try:
            self.docker("image", "inspect", "--format", "{{.Id}}", name)
        except CommandError:
            return False
        return True


def machine_engine(home: Home) -> Engine | None:
    """Return the engine of this machine, where one answers."""
    engine = Engine(home, None)
    return engine if engine.answers() else None


def own_engine(home: Home) -> Engine:
    """Return the engine that we start, running or not."""
    socket = home.run / "docker.sock"
    if len(str(socket)) > _MAX_SOCKET_PATH:
        raise ClusterError(
            f"The socket path {socket} is longer than sockets allow; set XDG_CACHE_HOME to a shorter one."
        )
    return Engine(home, socket)


def prepare(home: Home, progress: Progress) -> None:
    """Install what our own daemon needs, and write the runtime wrapper where this machine needs one."""
    ensure_tools(ENGINE_TOOLS, log=home.build_logs / "apt.log", progress=progress)
    home.engine.mkdir(parents=True, exist_ok=True)
    if runtime.is_needed(Path("/proc/self/status").read_text()):
        wrapper = _wrapper(home)
        wrapper.write_text(runtime.wrapper_text(sys.executable, runtime.__file__))
        wrapper.chmod(0o755)


def start(home: Home, name: str) -> Daemon:
    """Start our own daemon, with data, socket and mounts of its own.

    The mounts live in a mount namespace, so that none is left on the machine however the daemon ends.
    """
    arguments = [
        "unshare",
        "--mount",
        "dockerd",
        f"--host=unix://{home.run / 'docker.sock'}",
        f"--data-root={home.engine / 'data'}",
        f"--exec-root={home.run / 'docker'}",
        f"--pidfile={home.run / 'docker.pid'}",
        "--bridge=none",
        f"--config-file={_settings(home)}",
    ]
    if _wrapper(home).exists():
        arguments += [f"--add-runtime=headrace={_wrapper(home)}", "--default-runtime=headrace"]
    home.run.mkdir(parents=True, exist_ok=True)
    _settings(home).write_text("{}\n")  # not the machine's settings of its own daemon
    return processes.start(name, arguments, log=home.logs / f"{name}.log")


def wait(engine: Engine, daemon: Daemon) -> None:
    """Wait until our own daemon answers."""

    def answers() -> bool:
        if not processes.is_alive(daemon):
            last = "\n".join(Path(daemon.log).read_text(errors="replace").splitlines()[-10:])
            raise StartError(f"{daemon.name} has ended; the last lines of its log:\n{last}")
        return engine.answers()

    wait_until(answers, timeout_s=_START_TIMEOUT_S, what="The container engine did not answer")


def stop(daemon: Daemon) -> None:
    """End our own daemon and what it started."""
    processes.stop(daemon, grace_s=_GRACE_S)


def end_strays(home: Home) -> None:
    """End what a daemon of ours left running when it was killed: containerd and its shims, known by our folder."""
    marker = str(home.run / "docker")
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if words and Path(words[0]).name.startswith("containerd") and any(marker in word for word in words):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def remove_empty_folders() -> None:
    """Remove the control groups and folders that a daemon leaves behind; one in use cannot be removed, and stays."""
    groups = [group for group in _CGROUPS.glob("*/docker") if group.is_dir()]
    for folder in (*groups, _CGROUPS / "docker", Path("/run/docker/plugins"), Path("/run/docker")):
        with suppress(OSError):
            folder.rmdir()


def packet_filter() -> str:
    """Return the machine's packet filter as text, empty where there is none."""
    if shutil.which("iptables-save") is None:
        return ""
    return capture(["iptables-save"], timeout_s=30)


def is_forwarding() -> bool:
    """Say whether the machine forwards packets."""
    return _FORWARDING.read_text().strip() == "1"


def restore_network(*, policy: str | None, forwarding: bool) -> None:
    """Take our daemon's chains out of the packet filter and forward packets only where that was so before."""
    for arguments in network.removals(packet_filter(), policy):
        subprocess.run(["iptables", *arguments], check=False, capture_output=True, timeout=30)
    if not forwarding and os.access(_FORWARDING, os.W_OK):
        _FORWARDING.write_text("0\n")


def _settings(home: Home) -> Path:
    return home.run / "docker.json"


def _wrapper(home: Home) -> Path:
    return home.engine / "runc"
