"""The question to a verifier: is this answer right?"""

import msgspec

from headrace_router.server.http import Request

_CHAT = b"/v1/chat/completions"
_TEXT = (
    "Here are a question and an answer to it. Is the answer right? Reply with one word, yes or no.\n\n"
    "Question: {question}\n\nAnswer: {answer}\n\nIs the answer right?"
)
_MAX_TOKENS = 3
_encode = msgspec.json.Encoder().encode


def verification(path: bytes, question: str, answer: str) -> Request:
    """Return the request to a verifier, at the path that the client's own request had; its model is left open."""
    text = _TEXT.format(question=question, answer=answer)
    fields = {"max_tokens": _MAX_TOKENS, "temperature": 0}
    if path == _CHAT:
        body = _encode({"messages": [{"role": "user", "content": text}], "model": "", **fields})
    else:
        body = _encode({"prompt": text, "model": "", **fields})
    return Request(b"POST", path, {}, [], http10=False, keep_alive=True, body=body)
