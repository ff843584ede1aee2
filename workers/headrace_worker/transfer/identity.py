"""Who this worker is to its hand-off peers."""

from dataclasses import dataclass

from headrace_api.handoff import PROTOCOL_VERSION, Hello, Layout, Welcome
from headrace_worker.errors import IncompatiblePeerError, TransferError


@dataclass(frozen=True, slots=True)
class Identity:
    """What both sides say of themselves in the handshake."""

    worker: str
    incarnation: str
    kv_hash: str
    transport: str
    layout: Layout
    metadata: bytes

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
        theirs, ours = hello.layout, self.layout
        if (theirs.num_layers, theirs.block_bytes) != (ours.num_layers, ours.block_bytes):
            raise TransferError(
                f"decode worker {hello.worker!r} has {theirs.num_layers} layers of {theirs.block_bytes} bytes a block, "
                f"prefill worker {self.worker!r} has {ours.num_layers} of {ours.block_bytes}"
            )
