"""Errors of the resources.

ValueError
├── ManifestError   a file holds no valid resources; its text is one sentence per fault, each with file and line
└── QuantityError   a quantity or a duration is misspelled
"""


class ManifestError(ValueError):
    """A file holds no valid resources; the text is one sentence per fault."""


class QuantityError(ValueError):
    """A quantity or a duration is misspelled."""
