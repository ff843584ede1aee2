"""What must hold before anything slow is imported; import it first.

The kernel ignores signals that the first process of a container has no handler for. A pod that is deleted while this
process still imports would be killed at the end of its grace period, which is as long as a drain, and not end at once.
"""

import os
import signal
from types import FrameType
from typing import NoReturn


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    # Not 0: a Job that was ended has not brought its model.
    raise SystemExit(128 + number)


if os.getpid() == 1:
    signal.signal(signal.SIGTERM, _stop)
