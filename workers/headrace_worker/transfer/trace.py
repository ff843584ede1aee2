"""One JSON line for each hand-off: when each layer was computed, posted and written. It shows the overlap."""

import json
import logging
from pathlib import Path
from typing import Any

from headrace_worker.transfer.source import Piece, Source

logger = logging.getLogger(__name__)


class Trace:
    """Appends lines to a file; called with one record at a time, on the courier's thread."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def __call__(self, record: dict[str, Any]) -> None:
        """Write one line; a full disk costs the trace and not the hand-off."""
        try:
            self._file.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        except OSError as error:
            logger.warning("a trace line was lost", extra={"error": str(error)})

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def describe(source: Source, outcome: str, *, worker: str, peer: str) -> dict[str, Any]:
    """Return the record of an attempt that has settled; times are seconds since it was asked for."""
    return {
        "attempt": source.attempt,
        "prefill": worker,
        "decode": peer,
        "outcome": outcome,
        "started_s": _since(source, source.started_s),
        "granted_s": _since(source, source.granted_s),
        "finished_s": _since(source, source.finished_s),
        "sent_bytes": source.sent_bytes,
        "transfer_s": round(source.transfer_s, 6),
        "exposed_s": round(source.exposed_s, 6),
        "pieces": [_piece(source, piece) for piece in source.pieces],
    }


def _piece(source: Source, piece: Piece) -> dict[str, Any]:
    return {
        "layers": [piece.layers.start, piece.layers.stop],
        "blocks": [piece.first, piece.first + len(piece.blocks)],
        "bytes": piece.size_bytes,
        "computed_s": _since(source, piece.computed_s),
        "posted_s": _since(source, piece.posted_s),
        "ended_s": _since(source, piece.ended_s),
    }


def _since(source: Source, moment: float | None) -> float | None:
    return None if moment is None else round(moment - source.opened_s, 6)
