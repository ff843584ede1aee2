"""A decode worker as a process of its own, to be killed: asks for one sequence, grants blocks, says how far it got.

Arguments: settings of `Prefill` as JSON, the address, the number of blocks.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path
from types import ModuleType
from types import SimpleNamespace as Values

from headrace_worker.messages import PrefillPeer
from headrace_worker.transfer.pick import pick


def load_conftest() -> ModuleType:
    spec = importlib.util.spec_from_file_location("transfer_conftest", Path(__file__).with_name("conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    harness = load_conftest()
    settings, address, num_blocks = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    shape = harness.Shape(settings["num_layers"], settings["num_blocks"], settings["block_bytes"])
    transport = pick(settings["transport"], incarnation="asker-1", host="127.0.0.1", secret=settings["secret"])
    decode = harness.Decode(shape, transport, incarnation="asker-1")
    peer = Values(peer=PrefillPeer("prefill-0", address, settings["incarnation"]))
    decode.grant(decode.start(peer, "doomed", 5, num_blocks), "doomed", range(num_blocks))
    until = time.monotonic() + harness.DEADLINE_S
    while not decode.has(2, 0) and time.monotonic() < until:
        decode.woken.clear()
        decode.woken.wait(0.01)
    sys.stdout.write("written\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
