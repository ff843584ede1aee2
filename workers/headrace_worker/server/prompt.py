"""The prompts of a request as token ids, and as text where it is to be repeated."""

from headrace_worker.errors import RequestError
from headrace_worker.server.fields import MESSAGE_NEUTRAL, Body, ChatBody, CompletionBody, Message
from headrace_worker.server.refusal import nearest, refuse_unserved, shown
from headrace_worker.server.served import ServedModel
from headrace_worker.text import Detokenizer, Vocabulary

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


def read_prompts(body: Body, model: ServedModel) -> list[tuple[tuple[int, ...], str]]:
    """Return ids and text to echo of each prompt."""
    if isinstance(body, ChatBody):
        return [(_chat_ids(body, model), "")]
    assert isinstance(body, CompletionBody)
    vocabulary = model.vocabulary
    pairs = []
    for prompt in _split_prompt(body.prompt):
        ids = _text_ids(prompt, vocabulary) if isinstance(prompt, str) else checked_ids(prompt, vocabulary, "prompt")
        if not ids:
            raise RequestError("The prompt is empty; send at least one token.", param="prompt")
        echo = (prompt if isinstance(prompt, str) else _text_of(ids, vocabulary)) if body.echo else ""
        pairs.append((ids, echo))
    return pairs


def _split_prompt(prompt: str | list[str | int | list[int]]) -> list[str | list[int]]:
    """Return the prompts of one field that may hold a text, ids, or a list of either."""
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise RequestError("prompt is an empty list; send at least one prompt.", param="prompt")
    if all(isinstance(one, int) for one in prompt):
        return [[one for one in prompt if isinstance(one, int)]]
    several = [one for one in prompt if not isinstance(one, int)]
    if len(several) != len(prompt) or len({type(one) for one in several}) > 1:
        raise RequestError("prompt mixes texts and token ids; send a list of one kind.", param="prompt")
    return several


def _text_ids(text: str, vocabulary: Vocabulary) -> tuple[int, ...]:
    ids = tuple(vocabulary.encode(text))
    return ids if vocabulary.bos_id is None else (vocabulary.bos_id, *ids)


def checked_ids(ids: list[int], vocabulary: Vocabulary, param: str) -> tuple[int, ...]:
    """Return the ids; raise RequestError where one is none of this model's."""
    for token_id in ids:
        if not 0 <= token_id < vocabulary.size:
            raise RequestError(
                f"{param} holds the token id {shown(token_id)}; this model's ids are 0 to {vocabulary.size - 1}.",
                param=param,
            )
    return tuple(ids)


def _text_of(ids: tuple[int, ...], vocabulary: Vocabulary) -> str:
    detokenizer = Detokenizer(vocabulary)
    return "".join(detokenizer.feed(token_id) for token_id in ids) + detokenizer.flush()


def _chat_ids(body: ChatBody, model: ServedModel) -> tuple[int, ...]:
    if model.template is None:
        raise RequestError(f"The model {model.name!r} has no chat template; use /v1/completions.")
    messages = [_message(message, f"messages[{index}]") for index, message in enumerate(body.messages)]
    segments = model.template.render(messages, add_generation_prompt=True)
    ids = tuple(model.vocabulary.encode_segments(segments))
    if not ids:
        raise RequestError("The chat template made an empty prompt of these messages.", param="messages")
    return ids


def _message(message: Message, at: str) -> dict[str, object]:
    if message.role not in _ROLES:
        raise RequestError(
            f"{at}.role is {shown(message.role)}{nearest(message.role, list(_ROLES))}", param=f"{at}.role"
        )
    refuse_unserved(message, MESSAGE_NEUTRAL, f"{at}.")
    if message.content is None and message.role != "assistant":
        raise RequestError(f"{at}.content is missing; send a text.", param=f"{at}.content")
    rendered: dict[str, object] = {"role": _ROLES[message.role], "content": _content(message, at)}
    if message.name is not None:
        rendered["name"] = message.name
    return rendered


def _content(message: Message, at: str) -> str:
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    texts = []
    for index, part in enumerate(message.content):
        where = f"{at}.content[{index}]"
        if part.get("type") != "text":
            raise RequestError(
                f"{where}.type is {shown(part.get('type'))}; only 'text' is supported yet.", param=f"{where}.type"
            )
        text = part.get("text")
        if not isinstance(text, str) or part.keys() != {"type", "text"}:
            raise RequestError(f"{where} must have the fields 'type' and 'text', the latter a string.", param=where)
        texts.append(text)
    return "\n".join(texts)
