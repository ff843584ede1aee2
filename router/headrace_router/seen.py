"""A request, as far as it is known before it goes anywhere."""

import msgspec

from headrace_router.cost.budget import Purse
from headrace_router.cost.tenants import Tenant
from headrace_router.openai.peek import Peek
from headrace_router.openai.wishes import Wishes
from headrace_router.server.http import Request
from headrace_router.server.identity import Identity


class Seen(msgspec.Struct, frozen=True):
    """One request."""

    request: Request
    peek: Peek
    identity: Identity
    tenant: Tenant
    wishes: Wishes = Wishes()
    purse: Purse | None = None
    """What it may cost at most, over all tiers."""
