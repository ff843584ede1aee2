"""A namespace of one's own on the shared API server, and sessions to it."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from e2e.cluster.api import ApiCluster
from e2e.cluster.kubectl import Kubectl

from headrace_operator.kubernetes.credentials import load
from headrace_operator.kubernetes.session import Session

_numbers = itertools.count(1)


@pytest.fixture
def kubectl(api_cluster: ApiCluster) -> Kubectl:
    return Kubectl(api_cluster.kubectl, api_cluster.kubeconfig)


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    name = f"operator-{next(_numbers)}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def connect(api_cluster: ApiCluster) -> Callable[..., Any]:
    """Returns a context with a session to the API server."""

    @asynccontextmanager
    async def open_session(**options: Any) -> AsyncIterator[Session]:
        credentials = await load(str(api_cluster.kubeconfig))
        async with Session(credentials, **options) as session:
            yield session

    return open_session
