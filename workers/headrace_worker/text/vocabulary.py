"""Text to token ids, with control tokens only where the text that spells them is trusted.

Control tokens are known to the tokenizer under secret spellings (`Disguise`), made anew each time a vocabulary is
loaded. Trusted text has its control tokens respelled before it is encoded, so what a client writes can never be one,
and the text between two control tokens is still cut and merged as one piece: the ids equal those of the model's
original tokenizer. Encoding each segment alone was rejected: it loses the merges across their borders.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from headrace_worker.text.pieces import Spelling

_SURROGATES = re.compile("[\ud800-\udfff]")
"""Lone ones can be spelled in JSON but have no bytes."""
Segment = tuple[str, bool]
"""Text, and whether it may spell control tokens."""


class Disguise:
    """Spellings of control tokens that a client cannot guess."""

    def __init__(self) -> None:
        self._nonce = secrets.token_hex(12)

    def spell(self, token_id: int) -> str:
        """Return the spelling of the control token with this id."""
        return f"\ue000{self._nonce}:{token_id}\ue001"


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The tokens of a vocabulary that text is not merged into."""

    controls: Mapping[str, int]
    """Real spelling of each control token, and its id."""
    whole: Mapping[str, bytes]
    """Other tokens that the model takes whole wherever they stand (`<think>`), with their bytes."""
    end_ids: Sequence[int]
    """Tokens that end an answer."""
    bos_id: int | None
    """The token that starts a prompt given as text; None where the model wants none. Chat templates write their own."""


class Vocabulary:
    """The tokens of one model.

    Args:
        tokenizer: encodes text; knows control tokens by their disguise only, under their own ids.
        disguise: how the tokenizer spells them.
        spelling: how a token that is neither control nor whole spells bytes.
        special: which are.
    """

    def __init__(self, tokenizer: Tokenizer, disguise: Disguise, spelling: Spelling, special: SpecialTokens) -> None:
        self.end_ids = tuple(dict.fromkeys(special.end_ids))
        self.bos_id = special.bos_id
        self._tokenizer = tokenizer
        self._disguise = disguise
        self._controls = dict(special.controls)
        self._control_ids = frozenset(self._controls.values())
        self._whole = dict(special.whole)
        # whole tokens take part in the search, so that the longer of two spellings at one place wins
        longest_first = sorted({*self._whole, *self._controls}, key=len, reverse=True)
        self._marked = re.compile("|".join(map(re.escape, longest_first)))
        self._spelling = spelling
        self._tokens = {token_id: token for token, token_id in tokenizer.get_vocab().items()}
        self._pieces: dict[int, bytes] = {}
        self.size = max(self._tokens, default=-1) + 1

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Return the ids of `text`; control tokens spelled in it stay text unless `special`."""
        return self.encode_segments([(text, special)])

    def encode_segments(self, segments: Sequence[Segment]) -> list[int]:
        """Return the ids of the joined text; a control token counts only where all of its text is trusted."""
        text = "".join(part for part, _ in segments)
        trusted = bytearray().join(bytes([is_trusted]) * len(part) for part, is_trusted in segments)
        return self._tokenizer.encode(
            _SURROGATES.sub("\ufffd", self._disguised(text, trusted)), add_special_tokens=False
        ).ids

    def piece(self, token_id: int) -> bytes:
        """Return the bytes of one token; empty for control tokens and for ids the vocabulary does not use."""
        piece = self._pieces.get(token_id)
        if piece is None:
            piece = self._pieces[token_id] = self._spell(token_id)
        return piece

    def is_control(self, token_id: int) -> bool:
        """Return whether the token is never part of an answer's text."""
        return token_id in self._control_ids

    def _spell(self, token_id: int) -> bytes:
        token = self._tokens.get(token_id)
        if token is None or token_id in self._control_ids:
            return b""
        whole = self._whole.get(token)
        return self._spelling(token) if whole is None else whole

    def _disguised(self, text: str, trusted: bytes | bytearray) -> str:
        if 1 not in trusted or not self._controls:
            return text
        parts: list[str] = []
        done = at = 0
        while (match := self._marked.search(text, at)) is not None:
            start, at = match.span()
            token_id = self._controls.get(match[0])
            if token_id is None:
                continue
            if 0 in trusted[start:at]:
                at = start + 1
                continue
            parts += (text[done:start], self._disguise.spell(token_id))
            done = at
        parts.append(text[done:])
        return "".join(parts)
