"""The model as transformers computes it in float32 from the same GGUF file: what every answer is held to."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tests.contract.prompts import Messages
from tests.contract.talk import Answer
from transformers import AutoModelForCausalLM, AutoTokenizer

from headrace_worker.server.shapes import spell
from headrace_worker.text import load_text


class Reference:
    """SmolLM2 in transformers.

    Args:
        path: of the GGUF file.
    """

    def __init__(self, path: Path) -> None:
        where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
        self._tokenizer: Any = AutoTokenizer.from_pretrained(**where)
        self._model: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).eval()
        vocabulary, _ = load_text(path)
        self._ids = {spell(token_id, vocabulary): token_id for token_id in range(vocabulary.size)}

    def prompt(self, messages: Messages) -> tuple[int, ...]:
        """Return the ids of a chat, ready for the answer."""
        return tuple(self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def check(self, chats: Sequence[Messages], answers: Sequence[Answer], count: int = 64) -> None:
        """Assert that each chat was answered by its greedy continuation of `count` tokens, with the right usage."""
        for messages, answer in zip(chats, answers, strict=True):
            prompt, ids = self.prompt(messages), self.ids(answer.tokens)
            assert ids == self.greedy(prompt, ids), messages
            assert answer.text == self.text(ids)
            assert (answer.prompt_tokens, answer.completion_tokens, len(ids)) == (len(prompt), count, count)

    def ids(self, tokens: Sequence[str]) -> tuple[int, ...]:
        """Return the ids of tokens as an answer's log-probabilities spell them."""
        return tuple(self._ids[token] for token in tokens)

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of an answer."""
        decoded: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return decoded

    def greedy(self, prompt: Sequence[int], answer: Sequence[int]) -> tuple[int, ...]:
        """Return the greedy choice behind the prompt and behind each token of `answer` but the last.

        It equals `answer` exactly when the greedy continuation of the prompt does, found token by token: both begin
        alike, and as long as they are alike each choice is made behind the same tokens. One pass instead of many.
        """
        return tuple(self._behind(prompt, answer).argmax(-1).tolist())

    def logprobs(self, prompt: Sequence[int], answer: Sequence[int]) -> list[float]:
        """Return the log-probability of each token of an answer."""
        scores = self._behind(prompt, answer).log_softmax(-1)
        return [float(row[token_id]) for row, token_id in zip(scores, answer, strict=True)]

    def _behind(self, prompt: Sequence[int], answer: Sequence[int]) -> torch.Tensor:
        """Return the logits behind the prompt and behind each token of `answer` but the last: (T, V) float32."""
        context = torch.tensor([[*prompt, *answer[:-1]]])
        with torch.inference_mode(), _one_thread():
            logits: torch.Tensor = self._model(context, logits_to_keep=len(answer)).logits[0]
        return logits


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: beside the workers of a service, several would mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
