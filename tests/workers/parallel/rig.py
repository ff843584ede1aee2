"""Random models that several ranks divide, and whole workers that serve them: `python -m headrace_worker`."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import torch
from safetensors.torch import save_file
from tests.workers.server.tokenizer import write_tokenizer

PACKAGES = [str(Path(__file__).parents[3] / name) for name in ("crds", "workers")]
DEADLINE_S = 120.0
VOCABULARY = 260


def write_llama(folder: Path, seed: int = 0, dtype: torch.dtype = torch.bfloat16, **changes: Any) -> Path:
    """Write a random Llama beside the tiny tokenizer; `changes` go to its config.json. Logits spread over units."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 2048,
        "eos_token_id": 259,
        "tie_word_embeddings": False,
    } | changes
    folder.mkdir(parents=True)
    write_tokenizer(folder)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: (torch.ones(shape) if len(shape) == 1 else draw(shape, generator)).to(dtype)
        for name, shape in shapes(config).items()
    }
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def draw(shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    """Return random weights that keep the size of what they multiply."""
    values = torch.randn(*shape, generator=generator)
    return values.mul_(1.5 / shape[-1] ** 0.5)


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a Llama."""
    hidden, dim = config["hidden_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * dim, config["num_key_value_heads"] * dim
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden),
        "lm_head.weight": (config["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
    }
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        sizes = {"q": (queries, hidden), "k": (keys, hidden), "v": (keys, hidden), "o": (hidden, queries)}
        found |= {f"{at}.self_attn.{part}_proj.weight": size for part, size in sizes.items()}
        found |= {f"{at}.{norm}.weight": (hidden,) for norm in ("input_layernorm", "post_attention_layernorm")}
        found |= feed_forward(config, at)
    return found


def feed_forward(config: dict[str, Any], at: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the products after attention."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    if "num_local_experts" in config:
        moe = f"{at}.block_sparse_moe"
        found: dict[str, tuple[int, ...]] = {f"{moe}.gate.weight": (config["num_local_experts"], hidden)}
        for expert in range(config["num_local_experts"]):
            parts = {"w1": (inner, hidden), "w3": (inner, hidden), "w2": (hidden, inner)}
            found |= {f"{moe}.experts.{expert}.{part}.weight": shape for part, shape in parts.items()}
        return found
    return {
        f"{at}.mlp.gate_proj.weight": (inner, hidden),
        f"{at}.mlp.up_proj.weight": (inner, hidden),
        f"{at}.mlp.down_proj.weight": (hidden, inner),
    }


def eventually(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait for a condition on other processes."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.01)


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back for one request."""

    text: str
    tokens: list[str]
    prefill: str | None
    cached_tokens: int


class Worker:
    """A running worker, its processes and what it logged."""

    def __init__(self, folder: Path, model: Path, **settings: Any) -> None:
        folder.mkdir(parents=True)
        self.log = folder / "log"
        self._ready_file = folder / "ready.json"
        given = {"model": f"file://{model}", "name": "tiny", "dtype": "float32", "threads": 1, "device": "cpu"}
        given |= {"kv_memory_bytes": 64 << 20, "silence_s": 30.0, "ready_file": str(self._ready_file), **settings}
        (folder / "settings.json").write_text(json.dumps(given))
        command = [sys.executable, "-m", "headrace_worker", "--settings", str(folder / "settings.json")]
        with self.log.open("wb") as log:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(PACKAGES)}
            self.process = subprocess.Popen(command, stderr=log, start_new_session=True, env=environment)
        self._client: httpx.Client | None = None

    @property
    def client(self) -> httpx.Client:
        if self._client is None:
            eventually(lambda: self._ready_file.exists() or self.ended, "the worker listens")
            assert self._ready_file.exists(), self.logged()
            url = json.loads(self._ready_file.read_text())["url"]
            self._client = httpx.Client(base_url=url, timeout=DEADLINE_S, trust_env=False)
        return self._client

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def logged(self) -> str:
        return self.log.read_text(errors="replace")

    def await_ready(self) -> None:
        eventually(lambda: self.ended or self.client.get("/ready").status_code == 200, "the worker is ready")
        assert not self.ended, self.logged()

    def peer(self) -> str:
        """Return how a request names this worker as its prefill worker."""
        return str(self.client.base_url).rstrip("/")

    def core(self) -> psutil.Process:
        (found,) = psutil.Process(self.process.pid).children()
        return found

    def ranks(self) -> list[psutil.Process]:
        """Return the processes of rank 1 and up."""
        return self.core().children()

    def ask(self, prompt: Sequence[int], max_tokens: int = 8, headers: dict[str, str] | None = None) -> Answered:
        """Return a greedy answer to a prompt of token ids."""
        body = {"model": "tiny", "prompt": list(prompt), "max_tokens": max_tokens, "temperature": 0}
        body |= {"ignore_eos": True, "logprobs": 1}
        answer = self.client.post("/v1/completions", json=body, headers=headers or {})
        assert answer.status_code == 200, answer.text
        said = answer.json()
        cached = said["usage"].get("prompt_tokens_details", {}).get("cached_tokens", 0)
        choice = said["choices"][0]
        return Answered(choice["text"], choice["logprobs"]["tokens"], answer.headers.get("x-headrace-prefill"), cached)

    def metric(self, line: str) -> float:
        """Return the value of the metric whose line begins so."""
        lines = self.client.get("/metrics").text.splitlines()
        return float(next(one for one in lines if one.startswith(line)).rpartition(" ")[2])

    def stop(self) -> None:
        """Ask it to end, and prove that it ends well and leaves no process."""
        processes = psutil.Process(self.process.pid).children(recursive=True)
        self.process.terminate()
        assert self.process.wait(30) == 0, self.logged()
        eventually(lambda: not any(_lives(process) for process in processes), "all processes have ended", 10)
        assert "Traceback" not in self.logged()

    def kill(self) -> None:
        if self._client is not None:
            self._client.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def running(folder: Path, model: Path, **settings: Any) -> Iterator[Worker]:
    """Run a worker to the end of the block; it ends in order."""
    worker = Worker(folder, model, **settings)
    try:
        worker.await_ready()
        yield worker
        worker.stop()
    finally:
        worker.kill()
