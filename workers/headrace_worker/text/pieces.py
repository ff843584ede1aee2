"""The raw bytes behind a token's spelling in a vocabulary."""

import re
from collections.abc import Callable
from functools import cache

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"

Spelling = Callable[[str], bytes]


@cache
def byte_alphabet() -> dict[str, int]:
    """Return the byte that each character of a byte-level vocabulary stands for (Radford et al. 2019, GPT-2).

    Printable bytes of Latin-1 stand for themselves; the others, in order, for the characters from U+0100 on.
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in sorted(printable)}
    alphabet.update({chr(0x100 + place): byte for place, byte in enumerate(others)})
    return alphabet


def byte_level(token: str) -> bytes:
    """Return the bytes of a byte-level token; one with a character outside the alphabet is spelled plainly."""
    alphabet = byte_alphabet()
    try:
        return bytes(alphabet[character] for character in token)
    except KeyError:
        return token.encode("utf-8", errors="replace")


def sentencepiece(token: str) -> bytes:
    """Return the bytes of a SentencePiece token: `<0x0A>` is one byte, U+2581 a space."""
    byte = _BYTE_TOKEN.fullmatch(token)
    if byte is not None:
        return bytes([int(byte[1], 16)])
    return token.replace(_SPACE, " ").encode("utf-8", errors="replace")


def plain(token: str) -> bytes:
    """Return the bytes of a token that is spelled as it reads."""
    return token.encode("utf-8", errors="replace")
