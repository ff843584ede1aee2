"""Events for people who watch a resource: one for each thing that changed, none for what goes on as it was."""

import logging
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from headrace_operator.kubernetes.cache import Key
from headrace_operator.kubernetes.errors import ClusterError
from headrace_operator.kubernetes.kinds import EVENTS
from headrace_operator.kubernetes.session import Session, encode

logger = logging.getLogger(__name__)

_CONTROLLER: Final = "serving.headrace.dev/operator"
_NOTE: Final = 1000
"""The API server takes 1024 bytes."""


@dataclass(frozen=True, slots=True)
class Note:
    """What an event says."""

    kind: Literal["Normal", "Warning"]
    reason: str
    """One word in CamelCase."""
    action: str
    """What the operator was doing, one word."""
    text: str


class Events:
    """Posts events; one that is lost is lost, since the conditions say the same.

    Args:
        session: to the API server.
        instance: of the operator.
    """

    def __init__(self, session: Session, instance: str) -> None:
        self._session = session
        self._instance = instance

    async def post(self, key: Key, uid: str, note: Note) -> None:
        """Post an event about a resource."""
        about = {"kind": key.kind, "namespace": key.namespace, "name": key.name, "uid": uid}
        body = {
            "apiVersion": EVENTS.version,
            "kind": EVENTS.name,
            "metadata": {"name": f"{key.name[:40]}.{secrets.token_hex(8)}", "namespace": key.namespace},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": _CONTROLLER,
            "reportingInstance": self._instance[:128] or "headrace",
            "type": note.kind,
            "reason": note.reason,
            "action": note.action,
            "note": note.text.encode()[:_NOTE].decode(errors="ignore"),
            "regarding": {"apiVersion": "serving.headrace.dev/v1alpha1", **about},
        }
        with suppress(ClusterError):
            await self._session.create(EVENTS, key.namespace, encode(body))
