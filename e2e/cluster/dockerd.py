"""A Docker daemon of our own, for machines where none runs: started, ended and cleared up after."""

from __future__ import annotations

import os
import shutil
import signal
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
from e2e.cluster.engine import Engine
from e2e.cluster.errors import ClusterError
from e2e.cluster.state import NetworkBefore

if TYPE_CHECKING:
    from e2e.cluster.home import Home
    from e2e.cluster.processes import Daemon

_START_TIMEOUT_S: Final = 60.0
_GRACE_S: Final = 30.0
_MAX_SOCKET_PATH: Final = 100
_CGROUPS: Final = Path("/sys/fs/cgroup")
_GROUP: Final = "headrace"
"""Control group of all our containers: by it their processes are known even when the daemon has died."""
_FORWARDING: Final = Path("/proc/sys/net/ipv4/ip_forward")


def own_engine(home: Home) -> Engine:
    """Return the engine that our daemon is, running or not."""
    socket = home.run / "docker.sock"
    if len(str(socket)) > _MAX_SOCKET_PATH:
        raise ClusterError(
            f"The socket path {socket} is longer than sockets allow; set XDG_CACHE_HOME to a shorter one."
        )
    return Engine(f"unix://{socket}")


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
        "--exec-opt=native.cgroupdriver=cgroupfs",
        f"--cgroup-parent=/{_GROUP}",
        f"--config-file={_settings(home)}",
    ]
    if _wrapper(home).exists():
        arguments += [f"--add-runtime=headrace={_wrapper(home)}", "--default-runtime=headrace"]
    home.run.mkdir(parents=True, exist_ok=True)
    # Files of a killed daemon would keep the next one from starting while nobody has collected the dead processes.
    _end_containerd(home, ("containerd",))
    for leftover in (home.run / "docker.pid", home.run / "docker" / "containerd" / "containerd.pid"):
        leftover.unlink(missing_ok=True)
    _settings(home).write_text("{}\n")  # not the machine's settings of its own daemon
    return processes.start(name, arguments, log=home.logs / f"{name}.log")


def wait(engine: Engine, daemon: Daemon) -> None:
    """Wait until our own daemon answers."""

    def answers() -> bool:
        processes.require_alive(daemon)
        return engine.answers()

    wait_until(answers, timeout_s=_START_TIMEOUT_S, what="The container engine did not answer")


def stop(daemon: Daemon) -> None:
    """End our own daemon and what it started."""
    processes.stop(daemon, grace_s=_GRACE_S)


def end_strays(home: Home, bridge: str | None) -> None:
    """End what a daemon of ours left running when it was killed, and remove the bridge and folders that it leaves.

    Its containerd and shims are known by our folder, processes of containers by our control group.
    """
    _end_containerd(home, ("containerd", "containerd-shim", "containerd-shim-runc-v2"))
    groups = [*_CGROUPS.glob(_GROUP), *_CGROUPS.glob(f"*/{_GROUP}")]
    for group in groups:
        _end_group(group)
    if bridge is not None:
        subprocess.run(["ip", "link", "delete", bridge], check=False, capture_output=True, timeout=30)
    unused = [*groups, *_CGROUPS.glob("*/docker"), Path("/run/docker/plugins"), Path("/run/docker")]
    nested = [folder for group in groups for folder in sorted(group.rglob("*"), reverse=True) if folder.is_dir()]
    for folder in (*nested, *unused):
        with suppress(OSError):  # a folder in use cannot be removed, and stays
            folder.rmdir()


def _end_containerd(home: Home, names: tuple[str, ...]) -> None:
    marker = str(home.run / "docker")
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if words and Path(words[0]).name in names and any(marker in word for word in words):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _end_group(group: Path) -> None:
    """Kill every process of a control group and wait until the kernel has let go of them."""

    def members() -> list[int]:
        return [int(line) for file in group.rglob("cgroup.procs") for line in _lines(file)]

    for pid in members():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not members(), timeout_s=_GRACE_S, what=f"Processes of {group} did not end")


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:  # the group has gone since it was listed
        return []


def network_before() -> NetworkBefore:
    """Return what `restore_network` needs to know, asked before the daemon starts."""
    saved = _packet_filter()
    return NetworkBefore(
        owned=not network.has_engine_chains(saved),
        forward_policy=network.forward_policy(saved),
        forwarding=_FORWARDING.read_text().strip() == "1",
    )


def _packet_filter() -> str:
    """Return the machine's packet filter as text, empty where there is none."""
    if shutil.which("iptables-save") is None:
        return ""
    return capture(["iptables-save"], timeout_s=30)


def restore_network(before: NetworkBefore) -> None:
    """Take our daemon's chains out of the packet filter and forward packets only where that was so before."""
    if not before.owned:
        return
    for arguments in network.removals(_packet_filter(), before.forward_policy):
        subprocess.run(["iptables", *arguments], check=False, capture_output=True, timeout=30)
    if not before.forwarding and os.access(_FORWARDING, os.W_OK):
        _FORWARDING.write_text("0\n")


def _settings(home: Home) -> Path:
    return home.run / "docker.json"


def _wrapper(home: Home) -> Path:
    return home.engine / "runc"
