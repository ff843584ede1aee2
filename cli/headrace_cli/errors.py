"""Errors of the command line.

CliError       base; carries the exit status
├── UsageError     what was asked for cannot be done as asked: status 2
└── RuntimeFailure it could have been done and did not work: status 1
"""


class CliError(Exception):
    """A sentence for the user and an exit status."""

    status = 1


class UsageError(CliError):
    """What was asked for cannot be done as asked: a wrong flag, a port in use, an invalid file."""

    status = 2


class RuntimeFailure(CliError):  # noqa: N818 (an outcome, told apart from UsageError by its name)
    """It could have been done and did not work: nothing listens, a worker does not start."""
