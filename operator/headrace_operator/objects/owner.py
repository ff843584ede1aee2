"""Whose objects are built: the head that every manifest gets from its resource."""

from dataclasses import dataclass
from typing import Any, Literal, Self

from headrace_api.names import API_VERSION, LABEL_DEPLOYMENT, LABEL_ROUTER
from headrace_api.resources import LLMDeployment, LLMRouter

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Owner:
    """The resource that objects are made for; they go when it goes."""

    kind: Literal["LLMDeployment", "LLMRouter"]
    name: str
    namespace: str
    uid: str | None
    """None where no API server has seen the resource yet; the objects then name no owner."""

    @classmethod
    def of(cls, resource: LLMDeployment | LLMRouter) -> Self:
        """Return the owner that a resource is."""
        metadata = resource.metadata
        return cls(resource.kind, metadata.name, metadata.namespace, metadata.uid)

    @property
    def label(self) -> dict[str, str]:
        """The one label that tells this owner's objects from all others of the namespace."""
        return {LABEL_DEPLOYMENT if self.kind == "LLMDeployment" else LABEL_ROUTER: self.name}

    def manifest(self, kind: str, api_version: str, name: str, labels: dict[str, str], **content: Any) -> Manifest:
        """Return an object of this owner; `content` is what stands beside its metadata."""
        metadata: Manifest = {"name": name, "namespace": self.namespace, "labels": labels}
        if self.uid is not None:
            metadata["ownerReferences"] = [self._reference(self.uid)]
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}

    def _reference(self, uid: str) -> Manifest:
        """Return the owner reference.

        It does not block the owner's deletion: that would ask for the right to change the owner's finalizers where
        the API server checks owner references.
        """
        return {"apiVersion": API_VERSION, "kind": self.kind, "name": self.name, "uid": uid, "controller": True}
