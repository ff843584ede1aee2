"""Time from `make up` to ready: in a fresh clone with empty model and kernel caches, and the second time.

The package installer's own cache is left as it is, so the cold figure holds the installation but not the download of
packages. `python -m benchmarks.startup`.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import rows

ROOT = Path(__file__).parent.parent
DEADLINE_S = 900.0


def up_s(clone: Path, cache: Path) -> float:
    """Return the seconds from `make up` to its state file, which is written once all is ready."""
    state = cache / "state.json"
    state.unlink(missing_ok=True)
    command = ["make", "up", f"UP_FLAGS=--port 0 --state {state}"]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    began = time.perf_counter()
    with (cache / "up.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=clone, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        while not state.exists():
            if process.poll() is not None or time.perf_counter() - began > DEADLINE_S:
                raise RuntimeError(f"`make up` did not get ready: {(cache / 'up.log').read_text()[-2000:]}")
            time.sleep(0.02)
        return time.perf_counter() - began
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and store where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="list of rows to add to (created when missing)")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        clone, cache = Path(folder) / "clone", Path(folder) / "cache"
        cache.mkdir()
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        uv_cache = subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=False).stdout.strip()
        if uv_cache:
            os.environ.setdefault("UV_CACHE_DIR", uv_cache)
        made = [
            rows.Row("make up to ready, cold (fresh clone, installation included)", up_s(clone, cache), "s"),
            rows.Row("make up to ready, warm", up_s(clone, cache), "s"),
        ]
    return rows.finish(made, given.out, "startup")


if __name__ == "__main__":
    sys.exit(main())
