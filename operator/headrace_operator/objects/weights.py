"""Where a deployment's weights lie for its pods: in the cache claim, in a claim of the user's, or in the image."""

from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

from headrace_api.resources import LLMDeployment
from headrace_operator.objects import names
from headrace_operator.objects.owner import Manifest

FOLDER: Final = "/models"
_VOLUME: Final = "models"


@dataclass(frozen=True, slots=True)
class Weights:
    """How pods of a deployment come to its weights."""

    uri: str
    """What a worker is told to load."""
    claim: str | None = None
    """The claim that is mounted at FOLDER; None where the weights are in the image or on a volume of the template."""
    cached: bool = False
    """The claim holds the cache that the fetching Job fills, None of the user's own layout."""
    read_only_claim: bool = False
    """The claim was filled before and may be mounted for reading only."""
    one_node: bool = False
    """Only pods of one node may mount the claim at the same time."""

    @classmethod
    def of(cls, deployment: LLMDeployment) -> Self:
        """Return where the weights of `deployment` lie."""
        model, cache = deployment.spec.model, deployment.spec.model.cache
        scheme = model.uri.partition("://")[0]
        one_node, read_only = cache.access_mode == "ReadWriteOnce", cache.access_mode == "ReadOnlyMany"
        if scheme == "file":
            return cls(model.uri)
        if scheme == "pvc":
            parts = urlsplit(model.uri)
            return cls(f"file://{FOLDER}{parts.path}", parts.netloc, read_only_claim=read_only, one_node=one_node)
        claim = cache.claim or names.models(deployment.metadata.name)
        return cls(model.uri, claim, cached=True, read_only_claim=read_only, one_node=one_node)

    @property
    def environment(self) -> list[Manifest]:
        """Variables that show a process where the cache is."""
        return [{"name": "XDG_CACHE_HOME", "value": FOLDER}] if self.cached else []

    def volumes(self) -> list[Manifest]:
        """Return the volumes of a pod that mounts the weights."""
        if self.claim is None:
            return []
        source = {"claimName": self.claim, **({"readOnly": True} if self.read_only_claim else {})}
        return [{"name": _VOLUME, "persistentVolumeClaim": source}]

    def mounts(self, *, read_only: bool) -> list[Manifest]:
        """Return the mounts of a container that reads the weights, or fills the cache."""
        if self.claim is None:
            return []
        return [{"name": _VOLUME, "mountPath": FOLDER, **({"readOnly": True} if read_only else {})}]
