"""Errors of the operator.

OperatorError
├── SettingsError   the operator was started with a setting that it cannot take
├── PlanError       resources that are valid one by one do not fit together
├── CrashLoopError  a worker or the router ends again and again before it is ready
├── ProbeError      a hand-off was tried and did not work
└── GroupAliveError a process group outlived SIGKILL; nobody may vouch for its end
"""


class OperatorError(Exception):
    """Base of everything the operator raises on purpose; its text is a sentence for the user."""


class SettingsError(OperatorError):
    """The operator was started with a setting that it cannot take; the text names it and what is allowed."""


class PlanError(OperatorError):
    """Resources that are valid one by one do not fit together."""


class CrashLoopError(OperatorError):
    """A worker or the router ends again and again before it is ready."""


class ProbeError(OperatorError):
    """A hand-off was tried and did not work; says between whom and what was seen."""


class GroupAliveError(OperatorError):
    """A process group outlived SIGKILL (uninterruptible I/O); nobody may vouch for its end."""
