"""Resources as a test writes them, and what the builders make of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from headrace_api.resources import LLMDeployment
from headrace_operator.objects import Site, deployment_children, stamped
from headrace_operator.objects.pod import pod_template
from headrace_operator.plan import pools_of

if TYPE_CHECKING:
    from headrace_operator.desired import Pool
    from headrace_operator.objects import Child

Make = Callable[..., LLMDeployment]


def make_deployment(name: str = "chat", uri: str = "hf://a/b", **spec: Any) -> LLMDeployment:
    """Return a deployment; `spec` is what stands beside the model, or in it under `model`."""
    model = {"uri": uri, **spec.pop("model", {})}
    metadata = {"name": name, "namespace": "serving", "uid": "11111111-2222-3333-4444-555555555555"}
    return LLMDeployment.model_validate({"metadata": metadata, "spec": {"model": model, **spec}})


def stamped_pools(deployment: LLMDeployment, site: Site) -> list[Pool]:
    return [stamped(deployment, pool, site) for pool in pools_of(deployment)]


@pytest.fixture
def make() -> Make:
    return make_deployment


@pytest.fixture
def site() -> Site:
    return Site(worker_image="example/worker:1", router_image="example/router:1")


@pytest.fixture
def gpu_site() -> Site:
    return Site(worker_image="example/worker:1", router_image="example/router:1", nvidia=True)


@pytest.fixture
def pools(site: Site) -> Callable[[LLMDeployment], list[Pool]]:
    return lambda deployment: stamped_pools(deployment, site)


@pytest.fixture
def children(site: Site) -> Callable[[LLMDeployment], tuple[Child, ...]]:
    return lambda deployment: deployment_children(deployment, stamped_pools(deployment, site), site, secret="0" * 64)


@pytest.fixture
def pod(site: Site) -> Callable[..., dict[str, Any]]:
    """The pod template of one role."""

    def template(deployment: LLMDeployment, role: str = "decode", where: Site = site) -> dict[str, Any]:
        pool = next(one for one in stamped_pools(deployment, where) if one.role == role)
        return pod_template(deployment, pool, where)

    return template


@pytest.fixture
def worker(pod: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The worker container of one role."""

    def container(deployment: LLMDeployment, role: str = "decode", **where: Site) -> dict[str, Any]:
        found: dict[str, Any] = pod(deployment, role, **where)["spec"]["containers"][0]
        return found

    return container
