"""The custom resources as pydantic models, and how files of them are read.

Owns every field's meaning, bounds and default (the manual), and the sentences a user reads when a file is wrong. Knows
nothing of clusters, processes or how a field is put into effect.
"""

from headrace_api.resources.deployment import LLMDeployment
from headrace_api.resources.errors import ManifestError
from headrace_api.resources.files import load_manifests, parse_manifests
from headrace_api.resources.meta import Metadata, Resource
from headrace_api.resources.pool import LLMPool
from headrace_api.resources.router import LLMRouter

__all__ = [
    "LLMDeployment",
    "LLMPool",
    "LLMRouter",
    "ManifestError",
    "Metadata",
    "Resource",
    "load_manifests",
    "parse_manifests",
]
