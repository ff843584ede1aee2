"""Who this worker is to its hand-off peers."""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace_api.handoff import PROTOCOL_VERSION, Hello, Layout, Rank, Welcome
from headrace_worker.errors import IncompatiblePeerError, TransferError
from headrace_worker.transfer.routes import covered


@dataclass(frozen=True, slots=True)
class Identity:
    """What both sides say of themselves in the handshake."""

    worker: str
    incarnation: str
    kv_hash: str
    transport: str
    layout: Layout
    metadata: bytes
    ranks: tuple[Rank, ...] = ()
    """The other ranks of this worker."""

    @property
    def layouts(self) -> list[Layout]:
        """Of all ranks."""
        return [self.layout, *(rank.layout for rank in self.ranks)]

    def hello(self) -> Hello:
        """Introduce ourselves as a decode worker."""
        return Hello(
            worker=self.worker,
            incarnation=self.incarnation,
            protocol=PROTOCOL_VERSION,
            kv_hash=self.kv_hash,
            transport=self.transport,
            layout=self.layout,
            metadata=self.metadata,
            ranks=self.ranks,
        )

    def welcome(self) -> Welcome:
        """Introduce ourselves as a prefill worker; nobody writes to us, so no metadata travels."""
        return Welcome(worker=self.worker, incarnation=self.incarnation, kv_hash=self.kv_hash, metadata=b"")

    def check(self, hello: Hello) -> None:
        """Raise TransferError where this decode worker cannot take our KV; its metadata is not looked at."""
        if hello.protocol != PROTOCOL_VERSION:
            raise TransferError(
                f"decode worker {hello.worker!r} speaks hand-off protocol {hello.protocol}, prefill worker "
                f"{self.worker!r} speaks {PROTOCOL_VERSION}; run the same version on both"
            )
        if hello.kv_hash != self.kv_hash:
            raise IncompatiblePeerError(self.kv_hash, hello.kv_hash)
        if hello.transport != self.transport:
            raise TransferError(
                f"decode worker {hello.worker!r} uses KV transport {hello.transport!r}, prefill worker "
                f"{self.worker!r} uses {self.transport!r}; set the same `transport` on both"
            )
        theirs, ours = [hello.layout, *(rank.layout for rank in hello.ranks)], self.layouts
        if any(layout.head_bytes != self.layout.head_bytes for layout in theirs) or covered(theirs) != covered(ours):
            raise TransferError(
                f"decode worker {hello.worker!r} has {_amount(theirs)}, prefill worker {self.worker!r} has "
                f"{_amount(ours)}; both must hold the whole model in the same type"
            )
        if len({layout.num_blocks for layout in theirs}) > 1:
            raise TransferError(f"the ranks of decode worker {hello.worker!r} have different numbers of KV blocks")


def _amount(layouts: Sequence[Layout]) -> str:
    first = layouts[0]
    each = f"{first.num_layers} layers of {first.block_bytes} bytes a block"
    return each if len(layouts) == 1 else f"{len(layouts)} ranks, the first with {each}"
