"""Tokens to text, one at a time, never half a character."""

import codecs

from headrace_worker.text.vocabulary import Vocabulary

_new_decoder = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """The text of one choice so far; all `feed` and the last `flush` together are the decoded output.

    A character whose bytes are spread over several tokens comes with the token that completes it; bytes that can
    become no character come as U+FFFD.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._decoder = _new_decoder(errors="replace")

    def feed(self, token_id: int) -> str:
        """Return the text that this token completes; empty while a character is unfinished."""
        return self._decoder.decode(self._vocabulary.piece(token_id))

    def flush(self) -> str:
        """Return what is left at the end: U+FFFD for an unfinished character, else nothing."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text
