"""From resources to pools: the numbers that the user left open are filled in here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from headrace_api.resources import LLMDeployment, LLMRouter, Resource
from headrace_api.resources.cascade import ModelFile
from headrace_api.resources.percent import count
from headrace_api.resources.rollout import RolloutSpec
from headrace_operator.desired import DeploymentName, Desired, Pace, Pool, Router, Template
from headrace_operator.errors import PlanError


def plan(resources: Sequence[Resource], *, processors: int, threads: int | None = None) -> Desired:
    """Return what should run on one node for these resources.

    Args:
        resources: of all files together.
        processors: of the node; workers that state no threads share them evenly.
        threads: for each worker, in place of what the resources say.

    Raises:
        PlanError: two deployments have one name, two routers, or a tier without its deployment.
    """
    deployments = [resource for resource in resources if isinstance(resource, LLMDeployment)]
    routers = [resource for resource in resources if isinstance(resource, LLMRouter)]
    if not deployments and not any(tier.endpoint for router in routers for tier in router.spec.tiers):
        raise PlanError("the files hold no LLMDeployment; there is nothing to serve")
    names = [DeploymentName(deployment.metadata.name) for deployment in deployments]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise PlanError(f"LLMDeployment {repeated} occurs twice; give each deployment its own metadata.name")
    pools = tuple(pool for deployment in deployments for pool in pools_of(deployment))
    router = _router(routers, names)
    return Desired(tuple(_revised(pool) for pool in _share(pools, processors, threads)), router)


def with_models(desired: Desired, locations: Mapping[str, str]) -> Desired:
    """Return `desired` with each model's URI replaced by where it lies now, so that all workers load the same files."""
    pools = (_revised(replace(pool, template=_relocated(pool.template, locations))) for pool in desired.pools)
    return replace(desired, pools=tuple(pools))


def pace(rollout: RolloutSpec, replicas: int) -> Pace:
    """Return the pace of a rollout over so many workers.

    Shares are rounded in favour of moving on: where both come out as 0, one worker may be missing.
    """
    surge = count(rollout.max_surge, of=replicas, round_up=True)
    unavailable = count(rollout.max_unavailable, of=replicas, round_up=False)
    return Pace(surge, unavailable if surge else max(1, unavailable), rollout.paused)


def _revised(pool: Pool) -> Pool:
    """Return the pool under the revision and pairing of its template."""
    return replace(pool, revision=pool.template.revision(), pairing=pool.template.pairing())


def _relocated(template: Template, locations: Mapping[str, str]) -> Template:
    return replace(template, model=locations.get(template.model, template.model))


def pools_of(deployment: LLMDeployment) -> Iterable[Pool]:
    """Yield the pools of one deployment, with the first number of workers; threads left open are 0."""
    spec = deployment.spec
    name = DeploymentName(deployment.metadata.name)
    offload = spec.kv.offload
    template = Template(
        model=spec.model.uri,
        dtype=spec.model.dtype,
        disaggregation=spec.disaggregation,
        max_model_len=spec.model.max_length,
        chat_template=spec.model.chat_template,
        kv_memory_bytes=spec.kv.memory_bytes,
        block_size=spec.kv.block_size,
        max_running=spec.engine.max_running,
        chunk_tokens=spec.engine.chunk_tokens,
        transport=spec.kv.transfer,
        offload_memory_bytes=None if offload is None else offload.memory_bytes,
        offload_disk_bytes=None if offload is None or offload.disk is None else offload.disk_bytes,
        offload_path=None if offload is None else offload.path,
        tensor_parallel=spec.parallelism.tensor,
        nodes=spec.parallelism.nodes,
    )
    decode = replace(template, threads=spec.decode.threads or 0)
    decoders = 1 if spec.decode.replicas is None else spec.decode.replicas
    if spec.disaggregation == "never":
        yield Pool(name, "unified", decoders, decode)
        return
    prefillers = 1 if spec.prefill.replicas is None else spec.prefill.replicas
    if prefillers:
        yield Pool(name, "prefill", prefillers, replace(template, threads=spec.prefill.threads or 0))
    yield Pool(name, "decode", decoders, decode)


def _share(pools: Sequence[Pool], processors: int, threads: int | None) -> tuple[Pool, ...]:
    """Return the pools with their threads filled in: an even share of the one node's processors, at least one."""
    share = max(1, processors // max(1, sum(pool.replicas for pool in pools)))
    return tuple(
        replace(pool, template=replace(pool.template, threads=threads or pool.template.threads or share, nodes=1))
        for pool in pools
    )


def _router(routers: Sequence[LLMRouter], names: Sequence[DeploymentName]) -> Router:
    """Return the router: it serves every deployment, or those that the one LLMRouter names."""
    if len(routers) > 1:
        listed = " and ".join(router.metadata.name for router in routers)
        raise PlanError(f"the files hold LLMRouters {listed}; one router process serves all files, so keep one")
    if not routers:
        return Router(frozenset(names))
    named = routers[0].spec.deployments
    for named_by, deployment in named:
        if deployment not in names:
            raise PlanError(
                f"{named_by} of LLMRouter {routers[0].metadata.name} names deployment {deployment}, "
                f"which is in none of the files; there are {', '.join(names) or 'none'}"
            )
    return _with_books(routers[0], frozenset(DeploymentName(deployment) for _, deployment in named))


def _with_books(router: LLMRouter, serves: frozenset[DeploymentName]) -> Router:
    """Return the router with its tiers, keys, ledger and cascade; raise PlanError where those lie in a cluster."""
    spec = router.spec
    auth, ledger = spec.auth, spec.ledger
    if auth is not None and auth.keys_file is None:
        raise PlanError(f"LLMRouter {router.metadata.name} has its keys in a Secret; local mode needs auth.keysFile")
    if ledger is not None and ledger.file is None:
        raise PlanError(f"LLMRouter {router.metadata.name} has its ledger in a cluster; local mode needs ledger.file")
    for tier in spec.tiers:
        if tier.endpoint is not None and tier.endpoint.key_secret is not None:
            raise PlanError(
                f"tier {tier.name} of LLMRouter {router.metadata.name} has its key in a Secret; "
                "local mode needs endpoint.keyFile"
            )
    return Router(
        serves,
        spec.books_json(),
        None if auth is None else auth.keys_file,
        None if ledger is None else ledger.file,
        None if spec.cascade is None else _file_of(spec.cascade.gate, "gate", router),
        None if spec.cascade is None else _file_of(spec.cascade.predictor, "predictor", router),
    )


def _file_of(model: ModelFile | None, name: str, router: LLMRouter) -> str | None:
    if model is not None and model.file is None:
        raise PlanError(
            f"LLMRouter {router.metadata.name} has its {name} in a ConfigMap; local mode needs cascade.{name}.file"
        )
    return None if model is None else model.file
