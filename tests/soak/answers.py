"""The model that the soak serves, its prompts, and what one undisturbed process answers to them."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.workers.parallel.rig import running, write_llama

MODEL = "soaked"
MOST_TOKENS = 48
NUM_PROMPTS = 40
LONGEST = 400
CHUNK_TOKENS = 64
KV_MEMORY = 2 << 20
"""64 blocks of 16 tokens in each worker: less than what runs at once needs, so that decoding preempts."""


@dataclass(frozen=True, slots=True)
class Known:
    """A prompt and its greedy continuation, token by token as an answer spells them."""

    prompt: tuple[int, ...]
    tokens: tuple[str, ...]


def write_model(folder: Path) -> Path:
    """Write a random Llama of 8 layers, 32 KiB for each KV block of 16 tokens in float32."""
    sizes: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 8, "head_dim": 16}
    return write_llama(folder, seed=3, max_position_embeddings=1024, **sizes)


def prompts(seed: int) -> list[tuple[int, ...]]:
    """Return prompts of 20 to 400 tokens; every fourth one shares the first half of the one before."""
    dice = random.Random(seed)
    found: list[tuple[int, ...]] = []
    for number in range(NUM_PROMPTS):
        length = dice.randint(20, LONGEST)
        shared = found[-1][: len(found[-1]) // 2] if number % 4 == 3 else ()
        rest = tuple(dice.randrange(256) for _ in range(max(4, length - len(shared))))
        found.append((*shared, *rest))
    return found


def know(folder: Path, model: Path, seed: int) -> list[Known]:
    """Return what one worker that does everything itself answers, one request at a time."""
    with running(folder / "undisturbed", model, chunk_tokens=CHUNK_TOKENS, kv_memory_bytes=4 * KV_MEMORY) as worker:
        return [Known(prompt, tuple(worker.ask(prompt, MOST_TOKENS).tokens)) for prompt in prompts(seed)]


def resources(model: Path) -> str:
    """Return the resource of the service that is disturbed."""
    spec = {
        "model": {"uri": f"file://{model}", "dtype": "float32", "maxLength": 512},
        "disaggregation": "always",
        "prefill": {"replicas": 2},
        "decode": {"replicas": 2},
        "kv": {"memory": f"{KV_MEMORY >> 20}Mi"},
        "engine": {"chunkTokens": CHUNK_TOKENS, "maxRunning": 32},
    }
    kind = {"apiVersion": "serving.headrace.dev/v1alpha1", "kind": "LLMDeployment"}
    return json.dumps({**kind, "metadata": {"name": MODEL}, "spec": spec})
