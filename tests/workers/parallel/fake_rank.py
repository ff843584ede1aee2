"""A rank without a model, as a process of its own: it does what its first argument says."""

import os
import signal
import sys

from headrace_worker.parallel.messages import Begin, Broken, Found, ToRank
from headrace_worker.parallel.pipe import open_pipe


def main() -> None:
    what, pipe = sys.argv[1], open_pipe(int(sys.argv[2]), ToRank)
    begin = pipe.receive(30)
    assert isinstance(begin, Begin)
    match what:
        case "other weights":
            pipe.send(Found(begin.rank, "another hash", 10))
        case "fewer blocks":
            pipe.send(Found(begin.rank, "a hash", 7))
        case "gives up":
            pipe.send(Broken("the file is not there", permanent=True))
            return
        case "dies while all meet":
            pipe.send(Found(begin.rank, "a hash", 7))
            pipe.receive(30)
            os.kill(os.getpid(), signal.SIGKILL)
        case "gives up while all meet":
            pipe.send(Found(begin.rank, "a hash", 7))
            pipe.receive(30)
            pipe.send(Broken("no interface leads there"))
            return
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
    pipe.receive(30)


if __name__ == "__main__":
    main()
