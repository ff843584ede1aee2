"""Errors of the cascade.

RouterError
└── ModelFileError   a model file cannot be used: absent, no JSON, of another kind or version, inconsistent
"""

from headrace_router.errors import RouterError


class ModelFileError(RouterError):
    """A model file cannot be used; says what was found and what to do."""
