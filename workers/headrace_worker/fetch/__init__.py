"""Model files from a URI to a path on this machine: found, downloaded, checked, kept in the cache.

Owns downloads and the cache folder. Knows nothing of what is inside a model, and never runs or installs anything it
fetches.
"""

from headrace_worker.fetch.cache import cache_root
from headrace_worker.fetch.download import Progress
from headrace_worker.fetch.resolve import Resolved, resolve

__all__ = ["Progress", "Resolved", "cache_root", "resolve"]
