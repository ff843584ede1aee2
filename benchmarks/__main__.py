"""`python -m benchmarks [NAME …]`: run the benchmarks one after the other, renew docs/benchmarks.md."""

import argparse
import subprocess
import sys
import time

from benchmarks import document, rows

PARTS = {
    "engine": "tokens per second beside HF transformers",
    "handoff": "time to first token of 1P1D beside one unified worker; memory",
    "overlap": "how much of a hand-off hides behind compute",
    "handoff_raw": "hand-off bandwidth beside raw NIXL",
    "offload": "a prompt whose blocks were evicted: from memory and from disk beside computed anew",
    "ranks": "prefill over two ranks beside one rank with both cores",
    "router": "added latency and requests per second beside vllm-router",
    "reconcile": "the operator beside a bare client, 100 deployments and 1,000 pods on simulated nodes",
    "cluster": "a real kind cluster: apply to Ready, zero to an answer, a load step to another worker",
    "scaling": "the scaler's answers to KEDA beside rounds over 1,000 workers",
    "startup": "make up to ready, cold and warm",
}


def main() -> int:
    """Run the named parts, all by default; 1 when one failed or missed a target."""
    lines = "\n".join(f"  {name:12} {what}" for name, what in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=lines, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="NAME", help="parts to run (default: all)")
    chosen = parser.parse_args().parts or list(PARTS)
    if unknown := sorted(set(chosen) - set(PARTS)):
        parser.error(f"unknown parts: {', '.join(unknown)}; known: {', '.join(PARTS)}")
    failed = []
    for number, name in enumerate(chosen, start=1):
        print(f"[{number}/{len(chosen)}] {name}: {PARTS[name]}", flush=True)
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", "--out", str(rows.LATEST)], check=False)
        print(f"      {time.monotonic() - began:.0f} s\n", flush=True)
        if done.returncode:
            failed.append(name)
    if rows.LATEST.exists():
        document.write(rows.LATEST)
        print(f"rows: {rows.LATEST}\npage: {document.PAGE}\nplot: {document.PLOT}")
    if failed:
        print(f"failed or missed a target: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
