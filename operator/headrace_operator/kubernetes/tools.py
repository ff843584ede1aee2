"""What all turns of one operator share."""

from collections.abc import Callable
from dataclasses import dataclass

from headrace_operator.http.client import Client
from headrace_operator.kubernetes.apply import Applier
from headrace_operator.kubernetes.cache import Cache, Key
from headrace_operator.kubernetes.events import Events
from headrace_operator.kubernetes.resources import Resources
from headrace_operator.kubernetes.scaling.visits import Visits
from headrace_operator.kubernetes.session import Session
from headrace_operator.kubernetes.verify import Trials
from headrace_operator.objects import Site
from headrace_operator.status import Condition


@dataclass(frozen=True, slots=True)
class Tools:
    """Passed down once; the docstring below a field is its manual."""

    session: Session
    """Writes only while this operator leads."""
    cache: Cache
    applier: Applier
    resources: Resources
    events: Events
    client: Client
    """Asks workers."""
    trials: Trials
    scaled: Callable[[Key], Condition | None]
    """Returns who scales a deployment, None where it does not ask for that."""
    visits: Callable[[], Visits]
    """Makes what asks workers how they are."""
    site: Callable[[], Site]
    """What is known of the cluster now; the same object as long as nothing of it changes."""
    key: bytes
    """The operator's own, from which the secrets of deployments are derived."""
