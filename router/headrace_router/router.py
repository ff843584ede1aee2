"""The router: ties discovery, placement and the data path together, and answers what needs no worker."""

import asyncio
import logging
import random
import re
import time
from collections.abc import Callable

from headrace_api.names import HEADER_IDEMPOTENCY_KEY, HEADER_REQUEST_ID, HEADER_TIER
from headrace_router.admin.costs import Page, parse_query
from headrace_router.admin.health import health
from headrace_router.admin.metrics import Metrics
from headrace_router.admin.models import model_card, model_list
from headrace_router.admin.waiting import Polls, parse_seconds
from headrace_router.cascading import Cascading
from headrace_router.choose.prefix import chain
from headrace_router.choose.score import Costs
from headrace_router.choose.tier import Choice, Tiers
from headrace_router.cost.account import Account
from headrace_router.cost.book import Book
from headrace_router.cost.budget import purse_of_one
from headrace_router.cost.estimate import Terms
from headrace_router.cost.money import to_nano
from headrace_router.cost.tenants import ANYBODY, Tenant
from headrace_router.discovery.registry import Deployment, Member, Registry
from headrace_router.discovery.worker import Worker
from headrace_router.endpoint import Endpoint, Endpoints
from headrace_router.errors import ClientError
from headrace_router.openai.peek import PEEKS, Peek, peek_sizes, splice
from headrace_router.openai.wishes import take_wishes
from headrace_router.placement import Placement, Placer
from headrace_router.seen import Seen
from headrace_router.server.answer import JSON, Answer
from headrace_router.server.call import Call
from headrace_router.server.client import Client, Running
from headrace_router.server.exchange import Exchange
from headrace_router.server.hold import Hold
from headrace_router.server.http import Request, forwarded
from headrace_router.server.identity import Identity, random_identity, repeatable_identity
from headrace_router.server.pool import Pool
from headrace_router.settings import RouterSettings, read_spec
from headrace_router.tiering import Tiering

logger = logging.getLogger(__name__)

_ID = HEADER_REQUEST_ID.encode()
_TIER = f"{HEADER_TIER}: %b\r\n".encode()
_KEY = HEADER_IDEMPOTENCY_KEY.encode()
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_EMBEDDINGS = b"/v1/embeddings"
_FIELDS = {405: b"allow: POST\r\n", 401: b"www-authenticate: Bearer\r\n"}
_TEXT = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"
_MODELS = b"/v1/models"
_COSTS = b"/admin/costs"
_OPEN = frozenset((b"/health", b"/metrics", b"/waiting"))
"""Answered without an API key."""
_HIDDEN = b"authorization"
"""Not forwarded where it holds a key of ours: workers have no use for it."""


class Router:
    """One router, without its listening socket."""

    def __init__(self, settings: RouterSettings, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.registry = Registry()
        self.placer = Placer(
            Costs(
                prefill_ms_per_byte=settings.prefill_ms_per_kib / 1024,
                transfer_ms_per_byte=settings.transfer_ms_per_kib / 1024,
                stream_ms=settings.stream_ms,
                pressure_ms_per_byte=settings.pressure_ms_per_kib / 1024,
            ),
            settings.prefix_entries,
        )
        self.pool = Pool(settings, loop)
        self._polls = Polls(self._waiting)
        self.hold = Hold(settings.hold_requests, self._polls.tell_all)
        self.clients: set[Client] = set()
        self.draining = False
        # Not the loop's clock: uvloop's stands still within one turn and counts whole milliseconds.
        self.now_s = time.monotonic
        spec = read_spec(settings)
        kept = spec is not None and (spec.keeps_books or bool(settings.keys or settings.ledger))
        self.book = Book(spec, settings, loop) if spec is not None and kept else None
        cascade = None if spec is None or not spec.chooses else spec.cascade
        self.cascading = None if cascade is None else Cascading(cascade, settings.gate, settings.predictor)
        self.tiers = Tiers([] if spec is None else [(tier.name, tier.model) for tier in spec.tiers])
        self._capacities = {} if spec is None else {one.model: one.capacity for one in spec.tiers if one.capacity}
        self.endpoints = Endpoints.of(spec)
        self.registry.update(*self.endpoints.joined((), ()))
        self._started = int(time.time())
        self._random = random.Random()  # noqa: S311 - ids and seeds need to differ, not to be secret
        self._tiering = None if self.cascading is None else Tiering(self, self.cascading, self._random)

    # --- requests -----------------------------------------------------------------------------------------

    def serve(self, answer: Answer) -> Running | None:
        """Begin to answer a request; None when it is answered already."""
        request = answer.request
        identity = random_identity(_given_id(request), self._random.getrandbits(191))
        try:
            tenant = self._tenant(request)
            if _KEY in request.own:
                who = _authorization(request) if tenant is ANYBODY else tenant.key.encode()
                identity = repeatable_identity(who, request.own[_KEY], request.path, request.body)
            peek = PEEKS.get(request.path)
            if peek is None:
                return self._serve_own(answer, identity.request_id, tenant)
            if request.method != b"POST":
                raise _not_allowed(request)
            seen = self._look(request, peek, identity, tenant)
            if self._tiering is not None and self._leaves_open(seen):
                return self._tiering.start(answer, seen)
            call = self.call(seen, self.choose(seen.peek.model))
            account = self.account(seen, call)
        except ClientError as error:
            self.metrics.refused(error.status)
            allow = _FIELDS.get(error.status, b"")
            answer.error(error, allow + _id_line(identity.request_id))
            return None
        exchange = Exchange(self, answer, call, account)
        exchange.start()
        return exchange

    def _serve_own(self, answer: Answer, request_id: bytes, tenant: Tenant) -> Running | None:
        request = answer.request
        path = request.path
        fields = _id_line(request_id)
        is_model = path.startswith(_MODELS + b"/")
        if path not in _OPEN and path not in (_MODELS, _COSTS) and not is_model:
            raise ClientError(f"There is nothing at {path.decode('ascii', 'replace')}.", status=404, code="not_found")
        if request.method not in (b"GET", b"HEAD"):
            answer.error(_not_allowed(request), b"allow: GET, HEAD\r\n" + fields)
        elif path == b"/health":
            problems = {} if self.cascading is None else self.cascading.problems()
            status, body = health(self.registry, problems, draining=self.draining)
            answer.whole(status, JSON + fields, body)
        elif path == b"/metrics":
            answer.whole(200, _TEXT + fields, self._scrape())
        elif path == b"/waiting":
            seconds = 0.0 if self.draining else parse_seconds(request.query)
            return self._polls.ask(answer, fields, now_s=self.now_s(), seconds=seconds)
        elif path == _COSTS:
            return Page(self._ledger(tenant), parse_query(request.query), answer, fields)
        elif path == _MODELS:
            answer.whole(
                200, JSON + fields, model_list({*self.registry.deployments, *self.tiers.names()}, self._started)
            )
        else:
            name = path[len(_MODELS) + 1 :].decode("utf-8", "replace")
            self._deployment(self.choose(name).deployment)
            answer.whole(200, JSON + fields, model_card(name, self._started))
        return None

    def _ledger(self, tenant: Tenant) -> str:
        """Return where the ledger is, for who may read it; raise ClientError."""
        if self.book is None or self.book.place is None:
            text = "This router keeps no ledger; start it with --ledger, or give its LLMRouter one."
            raise ClientError(text, status=404, code="no_ledger")
        if not tenant.admin:
            text = f"The key {tenant.key!r} may not read everybody's costs; ask with one that has admin: true."
            raise ClientError(text, status=403, code="not_admin")
        return self.book.place

    def _tenant(self, request: Request) -> Tenant:
        """Return who asks; raise ClientError 401. What probes and scrapers read needs no key."""
        book = self.book
        if book is None or book.keys is None or request.path in _OPEN:
            return ANYBODY
        return book.tenant(_authorization(request))

    def _look(self, request: Request, peek: Callable[[bytes], Peek], identity: Identity, tenant: Tenant) -> Seen:
        """Return what is known of a request, with its wishes taken out of its body; raise ClientError."""
        seen = peek(request.body)
        if not self.tiers.names():
            return Seen(request, seen, identity, tenant)
        wishes, request.body = take_wishes(request.own, request.body)
        most = wishes.max_cost
        purse = None if most is None else purse_of_one(identity.request_id.decode(), to_nano(most))
        return Seen(request, seen, identity, tenant, wishes, purse)

    def _leaves_open(self, seen: Seen) -> bool:
        """Whether a request goes through the tiers."""
        model = seen.peek.model
        generates = seen.request.path != _EMBEDDINGS
        return generates and model not in self.registry.deployments and self.tiers.free(model)

    def account(self, seen: Seen, call: Call, suffix: str = "") -> Account | None:
        """Return the account of a request, one of several where it has a suffix; None where nobody counts."""
        if self.book is None:
            return None
        sizes = peek_sizes(seen.request.body)
        terms = Terms(len(seen.request.body), sizes.limit, 1 if sizes.n is None else sizes.n, seen.purse)
        names = (call.entry_id.decode() + suffix, call.request_id.decode())
        return self.book.open(seen.tenant, call.model, terms, names)

    def call(self, seen: Seen, choice: Choice) -> Call:
        """Return a request as it goes to a deployment; raise ClientError where there is none."""
        request, peek, identity = seen.request, seen.peek, seen.identity
        model, deployment = choice.deployment, self._deployment(choice.deployment)
        if self._full(model):
            most = self._capacities[model]
            said = f"{model!r} has all the {most} requests that it may have at once; try again later."
            raise ClientError(said, status=429, code="tier_full", retry_after_s=1)
        told = _TIER % ",".join(choice.tried).encode() if choice.tried else b""
        endpoint = self.endpoints.get(model)
        if endpoint is not None:
            return self._outward(seen, endpoint, told)
        hashes: tuple[int, ...] = ()
        prompt_bytes = len(request.body)
        if deployment.choosable:
            text = peek.text()
            hashes, prompt_bytes = chain(text, model), len(text)
        return Call(
            path=request.path,
            model=model,
            stream=peek.stream is True,
            body=splice(
                request.body,
                seed=None if peek.seeded else identity.seed,
                model=None if model == peek.model else model,
            ),
            forwarded=forwarded(request, hide=_HIDDEN if seen.tenant is not ANYBODY else None),
            request_id=identity.request_id,
            entry_id=identity.entry_id,
            created=int(time.time()),
            hashes=hashes,
            prompt_bytes=prompt_bytes,
            told=told,
        )

    def _outward(self, seen: Seen, endpoint: Endpoint, told: bytes) -> Call:
        """Return a request as it goes to an endpoint of others, without a seed of ours; raise ClientError."""
        request, peek, identity = seen.request, seen.peek, seen.identity
        if not endpoint.keyed:
            raise endpoint.keyless()
        stream = peek.stream is True and request.path != _EMBEDDINGS
        body, quiet = endpoint.body(request.body, usage=stream and self.book is not None)
        return Call(
            path=request.path,
            model=endpoint.tier,
            stream=stream,
            body=body,
            forwarded=b"",
            request_id=identity.request_id,
            entry_id=identity.entry_id,
            created=int(time.time()),
            hashes=(),
            prompt_bytes=len(request.body),
            told=told,
            endpoint=endpoint,
            quiet=quiet,
        )

    def choose(self, model: str | None) -> Choice:
        """Return where a request goes; a name that nobody knows is judged by `_deployment`."""
        if model is None:
            self._deployment(None)
            raise AssertionError("a request without a model was served")
        known = self.registry.deployments
        if model in known and not self.tiers.has(model):
            return Choice(model, ())
        return self.tiers.choose(model, self.serves) or Choice(model, ())

    def serves(self, model: str) -> bool:
        """Whether a deployment has a worker that can be chosen now, and room."""
        deployment = self.registry.deployments.get(model)
        endpoint = self.endpoints.get(model)
        if (endpoint is not None and not endpoint.keyed) or self._full(model):
            return False
        now_s = self.now_s()
        return deployment is not None and any(one.breaker.closed(now_s) for one in deployment.decoders)

    def _full(self, model: str) -> bool:
        """Whether a tier has all the requests that it may have at once."""
        most, deployment = self._capacities.get(model), self.registry.deployments.get(model)
        if most is None or deployment is None:
            return False
        return sum(one.load.requests for one in deployment.decoders) >= most

    def _deployment(self, model: str | None) -> Deployment:
        known = self.registry.deployments
        if model is not None and model in known:
            return known[model]
        if not known:
            text = "No model is served yet: discovery lists no worker. Try again later."
            raise ClientError(text, status=503, code="no_model", retry_after_s=1)
        said = "The request names no model" if model is None else f"The model {model!r} does not exist"
        names = dict.fromkeys((*sorted(known), *self.tiers.names()))
        text = f"{said}; this router serves: {', '.join(names)}."
        raise ClientError(text, status=404, param="model", code="model_not_found")

    # --- what exchanges and connections ask ---------------------------------------------------------------

    def place(self, call: Call, avoid: set[Member] | None) -> Placement | None:
        """Choose workers for the call; None when none can be chosen now."""
        deployment = self.registry.deployments.get(call.model)
        if deployment is None:
            return None
        return self.placer.place(deployment, call.hashes, call.prompt_bytes, avoid, self.now_s())

    def joined(self, client: Client) -> None:
        """A client has connected."""
        self.clients.add(client)

    def left(self, client: Client) -> None:
        """A client has gone."""
        self.clients.discard(client)

    # --- from discovery and the clock ---------------------------------------------------------------------

    def update(self, workers: tuple[Worker, ...], models: frozenset[str]) -> None:
        """Take over a new list of ready workers."""
        gone = self.registry.update(*self.endpoints.joined(workers, models))
        for member in gone:
            self.pool.drop(member.worker)
        if gone:
            self.placer.forget(gone)
        logger.info("%d workers listed, %d gone", len(workers), len(gone))
        self.wake()

    def drain(self) -> None:
        """Take no more connections' worth of requests: what is idle closes, what runs goes on to its end."""
        self.draining = True
        self._polls.tell_all()
        for client in list(self.clients):
            client.close_idle()

    def wake(self) -> None:
        """Let every request that waits for a worker try again."""
        self.hold.wake_all(self.now_s())

    def sweep(self) -> None:
        """Check the deadlines of all connections."""
        now_s = self.now_s()
        for client in list(self.clients):
            client.sweep(now_s)
        if self._tiering is not None:
            self._tiering.sweep(now_s)
        self.pool.sweep(now_s)

    def _scrape(self) -> bytes:
        costs = () if self.book is None else self.book.metrics()
        tiers = () if self.cascading is None else self.cascading.metrics()
        return self.metrics.render(self._workers(), self._waiting(), (*costs, *tiers))

    def _waiting(self) -> dict[str, int]:
        return dict.fromkeys(self.registry.deployments, 0) | self.hold.counts()

    def listed(self) -> list[Worker]:
        """Return the workers that are listed now."""
        known = self.registry.deployments.values()
        members = (member for one in known for member in (*one.decoders, *one.prefillers))
        return [member.worker for member in members if not member.worker.external]

    def _workers(self) -> dict[tuple[str, str], int]:
        now_s = self.now_s()
        counts: dict[tuple[str, str], int] = {}
        for model, deployment in self.registry.deployments.items():
            for member in deployment.decoders + deployment.prefillers:
                key = (model, member.worker.role)
                counts[key] = counts.get(key, 0) + member.breaker.closed(now_s)
        return counts


def _not_allowed(request: Request) -> ClientError:
    method, path = request.method.decode(), request.path.decode("ascii", "replace")
    return ClientError(f"{method} is not allowed at {path}.", status=405, code="method_not_allowed")


def _given_id(request: Request) -> bytes | None:
    given = request.own.get(_ID)
    return given if given is not None and _REQUEST_ID.fullmatch(given) else None


def _authorization(request: Request) -> bytes:
    return next((value for name, value in request.others if name == b"authorization"), b"")


def _id_line(request_id: bytes) -> bytes:
    return b"%b: %b\r\n" % (_ID, request_id)
