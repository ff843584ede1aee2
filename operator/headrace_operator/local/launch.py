"""Runs a command that must not outlive its starter: `python launch.py STARTER_PID COMMAND…`.

The command takes this process's place. On Linux the kernel sends it SIGTERM when the starter dies, however it dies;
a supervisor that was killed could not do that itself. A file of its own, run without site packages, so that the
detour costs some 20 ms.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Bind this process to its starter's life and become the command."""
    starter, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != starter:
            sys.exit("the starter has ended before its command began")
    os.execvp(command[0], command)  # noqa: S606 (no shell is the point)


if __name__ == "__main__":
    main()
