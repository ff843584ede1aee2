"""How blocks get from host memory into open files and back.

One class for each way; `pick` takes NIXL's POSIX backend where it loads, which posts a batch of files at once. Both
block the calling thread until the batch has ended: it is the clerk's, and not the engine's.
"""

import ctypes
import importlib
import logging
import os
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from headrace_worker.errors import OffloadError, StuckError

logger = logging.getLogger(__name__)
_BACKEND = "POSIX"
_DEADLINE_S = 60.0
"""For one batch; a file system that hangs for longer is given up."""
_POLL_S = 0.0002
_TRIAL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Piece:
    """`size` bytes of memory at `address`, and the file that they are the beginning of."""

    file: int
    """Descriptor."""
    address: int
    size: int


class Storage(ABC):
    """Moves pieces of one registered range of memory."""

    name: ClassVar[str]

    @abstractmethod
    def write(self, pieces: Sequence[Piece]) -> None:
        """Write each piece at the start of its file; raise OSError or OffloadError when one fails."""

    @abstractmethod
    def read(self, pieces: Sequence[Piece]) -> None:
        """Read each piece from the start of its file; raise OSError or OffloadError when one fails or is short."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the memory."""


class PlainStorage(Storage):
    """One system call after the other."""

    name: ClassVar[str] = "plain"

    def write(self, pieces: Sequence[Piece]) -> None:
        """Write file after file."""
        for piece in pieces:
            view, at = _memory(piece), 0
            while at < piece.size:
                at += os.pwrite(piece.file, view[at:], at)

    def read(self, pieces: Sequence[Piece]) -> None:
        """Read file after file."""
        for piece in pieces:
            view, at = _memory(piece), 0
            while at < piece.size:
                count = os.preadv(piece.file, [view[at:]], at)
                if not count:
                    raise OffloadError(f"a file ended after {at} of {piece.size} bytes")
                at += count

    def close(self) -> None:
        """Nothing is held."""


def _memory(piece: Piece) -> memoryview:
    return memoryview((ctypes.c_char * piece.size).from_address(piece.address)).cast("B")


class NixlStorage(Storage):
    """One NIXL agent with the POSIX backend alone: no thread and no network.

    Args:
        address: of the memory that all pieces lie in.
        size: of it, in bytes.
    """

    name: ClassVar[str] = "nixl"

    def __init__(self, address: int, size: int) -> None:
        try:
            self._bindings = importlib.import_module("nixl._bindings")
            self._errors = _exceptions(self._bindings)
            self._start(address, size)
        except (ImportError, RuntimeError) as error:
            raise OffloadError(f"NIXL's {_BACKEND} backend cannot be used here: {error}") from error

    def _start(self, address: int, size: int) -> None:
        settings = self._bindings.nixlAgentConfig()
        settings.useProgThread = False
        settings.useListenThread = False
        try:
            self._agent: Any = self._bindings.nixlAgent("offload", settings)
            parameters, _ = self._agent.getPluginParams(_BACKEND)
            self._backends = [self._agent.createBackend(_BACKEND, parameters)]
            self._memory = self._bindings.nixlRegDList(self._bindings.DRAM_SEG, [(address, size, 0, "")])
            self._agent.registerMem(self._memory, self._backends)
        except self._errors as error:
            raise OffloadError(f"NIXL's {_BACKEND} backend cannot be used here: {error}") from error

    def write(self, pieces: Sequence[Piece]) -> None:
        """Post all files at once."""
        self._move(self._bindings.NIXL_WRITE, pieces)

    def read(self, pieces: Sequence[Piece]) -> None:
        """Post all files at once."""
        self._move(self._bindings.NIXL_READ, pieces)

    def _move(self, operation: Any, pieces: Sequence[Piece]) -> None:
        bindings = self._bindings
        files = bindings.nixlRegDList(bindings.FILE_SEG, [(0, piece.size, piece.file, "") for piece in pieces])
        try:
            self._agent.registerMem(files, self._backends)
            try:
                self._transfer(operation, pieces)
            finally:
                self._agent.deregisterMem(files, self._backends)
        except self._errors as error:
            raise OffloadError(f"NIXL could not move {len(pieces)} blocks: {error}") from error

    def _transfer(self, operation: Any, pieces: Sequence[Piece]) -> None:
        bindings = self._bindings
        memory = np.array([(piece.address, piece.size, 0) for piece in pieces], dtype=np.uint64)
        files = np.array([(0, piece.size, piece.file) for piece in pieces], dtype=np.uint64)
        handle = self._agent.createXferReq(
            operation,
            bindings.nixlXferDList(bindings.DRAM_SEG, memory),
            bindings.nixlXferDList(bindings.FILE_SEG, files),
            "offload",
            b"",
            self._backends,
        )
        status = self._agent.postXferReq(handle, b"")
        end = time.monotonic() + _DEADLINE_S
        while status == bindings.NIXL_IN_PROG and time.monotonic() < end:
            time.sleep(_POLL_S)
            status = self._agent.getXferStatus(handle)
        if status == bindings.NIXL_IN_PROG:
            raise StuckError(f"a batch of {len(pieces)} blocks did not end within {_DEADLINE_S:.0f} s")
        self._agent.releaseXferReq(handle)
        if status != bindings.NIXL_SUCCESS:
            raise OffloadError(f"NIXL ended a batch of {len(pieces)} blocks with status {status}")

    def close(self) -> None:
        """End the agent."""
        self._agent.deregisterMem(self._memory, self._backends)
        del self._agent


def _exceptions(bindings: Any) -> tuple[type[Exception], ...]:
    """Return NIXL's exceptions, which share no base class; RuntimeError is what its bindings raise otherwise."""
    kinds = (kind for kind in vars(bindings).values() if isinstance(kind, type))
    return (RuntimeError, *(kind for kind in kinds if issubclass(kind, Exception)))


def pick(address: int, size: int, folder: Path) -> Storage:
    """Return NIXL's way where it can be had and can write to a file of the folder, else the plain one.

    Some sandboxes forbid the system calls that it uses, which shows only once it writes.
    """
    try:
        storage = NixlStorage(address, size)
        with tempfile.TemporaryFile(dir=folder) as file:
            storage.write([Piece(file.fileno(), address, min(size, _TRIAL_BYTES))])
    except (OffloadError, OSError) as error:
        logger.warning("%s; blocks are written by plain calls", error)
        return PlainStorage()
    return storage
