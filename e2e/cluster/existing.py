"""The provider `existing`: a cluster that is there already, found by KUBECONFIG; nothing of it is started or ended."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from e2e.cluster.base import Cluster, Status
from e2e.cluster.errors import ClusterError, MissingError, StartError
from e2e.cluster.kubectl import Kubectl

if TYPE_CHECKING:
    from collections.abc import Mapping


class ExistingCluster(Cluster):
    """A cluster of somebody else.

    Args:
        environment: Where `KUBECONFIG` is looked up, and `HOME` for kubectl's own default.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._kubeconfig = named_kubeconfig(environment)

    @property
    def kubeconfig(self) -> Path:
        return self._kubeconfig

    @property
    def kubectl(self) -> Path:
        found = shutil.which("kubectl")
        if found is None:
            raise MissingError("kubectl was not found; the provider 'existing' needs the one that fits your cluster.")
        return Path(found)

    def up(self) -> None:
        if not self._kubeconfig.is_file():
            raise MissingError(f"There is no kubeconfig at {self._kubeconfig}; set KUBECONFIG to the one to use.")
        if not Kubectl(self.kubectl, self._kubeconfig).answers():
            raise StartError(
                f"The cluster of {self._kubeconfig} does not say that it is ready; "
                "look at `kubectl get --raw /readyz?verbose`."
            )

    def down(self) -> None:
        """Do nothing: the cluster is not ours."""

    def status(self) -> Status:
        running = self._kubeconfig.is_file() and Kubectl(self.kubectl, self._kubeconfig).answers()
        return Status("existing", running, self._kubeconfig)

    def load(self, *images: str) -> None:
        raise ClusterError(
            f"{' and '.join(images)} cannot be loaded into a cluster that is not ours; "
            "push to a registry that the cluster's nodes reach."
        )


def named_kubeconfig(environment: Mapping[str, str]) -> Path:
    """Return the first file that `KUBECONFIG` names, or kubectl's default."""
    first = environment.get("KUBECONFIG", "").split(":")[0]
    return Path(first) if first else Path(environment.get("HOME", "/")) / ".kube" / "config"
