"""Sessions to the shared API server."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from e2e.cluster.api import ApiCluster

from headrace_operator.kubernetes.credentials import load
from headrace_operator.kubernetes.session import Session


@pytest.fixture
def connect(api_cluster: ApiCluster) -> Callable[..., Any]:
    """Returns a context with a session to the API server."""

    @asynccontextmanager
    async def open_session(**options: Any) -> AsyncIterator[Session]:
        credentials = await load(str(api_cluster.kubeconfig))
        async with Session(credentials, **options) as session:
            yield session

    return open_session
