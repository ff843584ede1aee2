"""What the process backend can be told."""

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """Parsed once at the entry; the docstring below a field is its manual."""

    folder: Path
    """Private folder for settings, ready files and logs of this run; the caller makes and removes it."""
    host: str = "127.0.0.1"
    """Address on which the router listens."""
    port: int = 0
    """Port of the router; 0 takes a free one and keeps it over restarts."""
    state_file: Path | None = None
    """Where to write the state once all is ready."""
    worker_command: tuple[str, ...] = (sys.executable, "-m", "headrace_worker")
    router_command: tuple[str, ...] = (sys.executable, "-m", "headrace_router")
    starting_poll_s: float = 0.05
    """How often a starting worker is asked whether it is ready: a human waits for it."""
    ready_poll_s: float = 1.0
    """How often a ready worker is asked; its end is seen at once without asking."""
    answer_deadline_s: float = 2.0
    """How long one such question may take."""
    unready_after: int = 3
    """Questions in a row that must fail before a ready worker loses its traffic."""
    liveness_deadline_s: float = 60.0
    """A worker that answers nothing for this long is killed: only its end proves that it writes nothing any more."""
    drain_deadline_s: float = 30.0
    """How long running requests may take once a drain began; then the processes are killed."""
    backoff_first_s: float = 0.5
    """Pause before the first restart; it doubles with each failure in a row."""
    backoff_most_s: float = 30.0
    """Longest pause before a restart."""
    healthy_after_s: float = 60.0
    """A child that was ready this long starts anew at the first pause when it fails."""
    probe_deadline_s: float = 60.0
    """How long one trial hand-off may take."""
    probe_rest_first_s: float = 0.2
    """Pause after a trial that failed; it doubles with each failure of the pair. The first one after a restart often
    fails: the decode worker still knows the old incarnation and learns of the new one by this."""
    probe_rest_most_s: float = 10.0
    """Longest pause between two trials of a pair."""
    end_deadline_s: float = 10.0
    """How long a killed group may take to disappear before that is reported as an error."""
    log_bytes: int = 16 * 1024 * 1024
    """A log file that grows beyond this is cut to its last part."""
