"""Errors of the test cluster.

ClusterError
├── MissingError    the machine lacks something that we cannot bring ourselves
├── CommandError    a program that we called failed or took too long
├── StartError      a part of the cluster ended or never became ready
└── StateError      the state file cannot be understood
"""

from __future__ import annotations


class ClusterError(Exception):
    """The cluster cannot be given; the message is a sentence that says what to do."""


class MissingError(ClusterError):
    """The machine lacks something that the recipe needs and cannot install."""


class CommandError(ClusterError):
    """A program failed or ran past its deadline; the message ends with its last lines."""


class StartError(ClusterError):
    """A part of the cluster ended early or did not become ready in time."""


class StateError(ClusterError):
    """The state file holds something else than what we wrote."""
