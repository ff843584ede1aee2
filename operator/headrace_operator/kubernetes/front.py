"""What the operator does for one LLMRouter when it is its turn."""

import asyncio
from collections.abc import Sequence

from headrace_api.resources import LLMRouter
from headrace_operator.kubernetes import report, workers, writing
from headrace_operator.kubernetes.agenda import Lane
from headrace_operator.kubernetes.apply import Wanted
from headrace_operator.kubernetes.cache import Key
from headrace_operator.kubernetes.kinds import LLM_ROUTERS
from headrace_operator.kubernetes.making import Maker
from headrace_operator.kubernetes.memory import Memory, Rendered, Written
from headrace_operator.kubernetes.models import EVERY_S, problems, wanted
from headrace_operator.kubernetes.observe import router_phase
from headrace_operator.kubernetes.queue import Again
from headrace_operator.kubernetes.tools import Tools
from headrace_operator.objects import Lane as ChildLane
from headrace_operator.objects import router_children


class FrontTurn:
    """One turn for one LLMRouter.

    Args:
        tools: what all turns share.
        key: of the resource.
        memory: of the resource.
        router: the resource.
    """

    def __init__(self, tools: Tools, key: Key, memory: Memory, router: LLMRouter) -> None:
        self._tools = tools
        self._key = key
        self._memory = memory
        self._router = router
        self._site = tools.site()
        self._now = asyncio.get_running_loop().time()
        self._maker = Maker(tools.session, tools.applier, memory, self._now)

    async def take(self) -> Again | None:
        """Make its objects, remove what it wants no more, report."""
        children = self._render()
        if await self._maker.is_orphaned(LLM_ROUTERS, self._key, children):
            self._tools.resources.drop(self._key)
            return Again()
        for child in children:
            await self._maker.make(child)
        await self._maker.prune(self._key, self._tools.cache, children)
        return await self._report(children)

    def _render(self) -> tuple[Rendered, ...]:
        rendered_for = (self._site, self._memory.generation)
        if self._memory.rendered_for != rendered_for:
            self._memory.rendered = tuple(
                Rendered(Wanted.of(child.manifest), child.lane is ChildLane.LATER, child.once)
                for child in router_children(self._router, self._site)
            )
            self._memory.rendered_for = rendered_for
        return self._memory.rendered

    async def _report(self, children: Sequence[Rendered]) -> Again | None:
        memory, tools = self._memory, self._tools
        body = tools.resources.get(self._key) or {}
        before = memory.status or Written(body.get("status") or {}, self._now + writing.FIRST_S - writing.EVERY_S)
        phase, failure = router_phase(self._key, tools.cache) or (None, None)
        missing, waiting = self._deployments()
        models = await self._models()
        status = report.router_status(
            self._router,
            phase,
            failure.message if failure is not None else "",
            missing=missing,
            waiting=waiting,
            problems=[str(error) for error in self._maker.problems(children)],
            models=models,
            previous=before.status,
            now=workers.stamp(),
        )
        place = self._key.namespace, self._key.name
        memory.status, again_s = await writing.write(
            tools.session, tools.cache, LLM_ROUTERS, place, status, before=before, now=self._now
        )
        if memory.status is not before:
            await writing.note(tools.events, self._key, memory, before.status, status)
        look_s = None if models is None else EVERY_S
        due = [pause for pause in (again_s, self._maker.again_s(), look_s) if pause is not None]
        return Again(min(due), Lane.IDLE) if due else None

    async def _models(self) -> Sequence[str] | None:
        """Return what is wrong with the cascade's ConfigMaps; None where it has none."""
        if not wanted(self._router):
            return None
        memory = self._memory
        if memory.models is None or self._now >= memory.models[0] + EVERY_S:
            memory.models = self._now, tuple(await problems(self._tools.session, self._router))
        return memory.models[1]

    def _deployments(self) -> tuple[list[str], list[str]]:
        """Return sentences on LLMDeployments that are missing, and on those that are not Ready."""
        missing, waiting = [], []
        for named_by, name in self._router.spec.deployments:
            body = self._tools.resources.get(Key("LLMDeployment", self._key.namespace, name))
            named = f"{named_by} names LLMDeployment {name}, which"
            if body is None:
                missing.append(f"{named} is not in namespace {self._key.namespace}; create it or name another one")
            elif report.condition_of(body.get("status") or {}, "Ready").get("status") != "True":
                waiting.append(f"{named} is not Ready")
        return missing, waiting
