"""What Ray's processes are told through their environment."""

import hashlib
import hmac
from typing import Final

_PURPOSE: Final = b"headrace ray token 1"
_GONE_S: Final = 10
"""A node gives up a head that is silent for this long."""


def environment(secret: str) -> dict[str, str]:
    """Return the variables; nodes with another secret are refused, and so is everybody else on the network.

    Who may speak to Ray may run any program, so its token is derived from the secret and never the secret itself: it
    travels with each call.
    """
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": hmac.new(secret.encode(), _PURPOSE, hashlib.sha256).hexdigest(),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_enable_metrics_collection": "0",
        "RAY_gcs_rpc_server_reconnect_timeout_s": str(_GONE_S),
        # each rank picks its GPU by its number; Ray would hide those that it was not asked for
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
