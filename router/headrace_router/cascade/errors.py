"""Errors of the cascade.

RouterError
└── CascadeError         what was asked of the cascade cannot be done
    └── ModelFileError   a model file cannot be used: absent, no JSON, of another kind or version, inconsistent
"""

from headrace_router.errors import RouterError


class CascadeError(RouterError):
    """What was asked of the cascade cannot be done; its text is a sentence for the reader."""


class ModelFileError(CascadeError):
    """A model file cannot be used; says what was found and what to do."""
