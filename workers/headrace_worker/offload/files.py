"""What a file of one KV block looks like: the block's bytes, then a trailer that says what they are.

The trailer names the block and the model, so that a file under a wrong name is found out; the checksum covers both. It
finds what goes wrong by chance, and proves nothing against somebody who may write into the folder.
"""

import struct
import zlib

from typing_extensions import Buffer

_MAGIC = b"headrace-kv-1\0\0\0"
_FIELDS = struct.Struct("<16s16s16sQII")
TRAILER_BYTES = _FIELDS.size
KEY_BYTES = 16
_PAGE = 4096


def file_bytes(block_bytes: int) -> int:
    """Return what a file takes of the budget: whole pages of the file system."""
    return -(-(block_bytes + TRAILER_BYTES) // _PAGE) * _PAGE


def trailer(key: bytes, model: bytes, content: Buffer) -> bytes:
    """Return the trailer of a block.

    Args:
        key: the block's chain hash, 16 bytes.
        model: the KV compatibility hash, 16 bytes.
        content: the block.
    """
    size = memoryview(content).nbytes
    head = _FIELDS.pack(_MAGIC, key, model, size, 0, 0)
    return _FIELDS.pack(_MAGIC, key, model, size, zlib.crc32(content, zlib.crc32(head)), 0)


def matches(found: bytes, key: bytes, model: bytes, content: Buffer) -> bool:
    """Return whether a trailer is the one of this block."""
    return found == trailer(key, model, content)
