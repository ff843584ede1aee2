"""The cascade's model files: read at the start, and again when they change."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from headrace_router.cascade.errors import CascadeError
from headrace_router.stamp import Stamp, stamp_or_gone

logger = logging.getLogger(__name__)
_Model = TypeVar("_Model")


class Shelf(Generic[_Model]):
    """One model file.

    Args:
        path: where it is; None where the policy needs none.
        load: reads it; raises CascadeError.
    """

    def __init__(self, path: str | None, load: Callable[[Path], _Model]) -> None:
        self._path = None if path is None else Path(path)
        self._load = load
        self._seen: Stamp | None = None
        self.model: _Model | None = None
        """As it was when it could last be used."""
        self.problem: str | None = None
        """Why the file as it is now cannot be used."""
        self.poll()

    def poll(self) -> None:
        """Read the file if it has changed; a broken one leaves the model that was."""
        if self._path is None:
            return
        seen = stamp_or_gone(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self.model, self.problem = self._load(self._path), None
            logger.info("the model in %s is in use", self._path)
        except CascadeError as error:
            self.problem = str(error)
            logger.warning("%s; %s", error, "the one before goes on" if self.model is not None else "there is none")
