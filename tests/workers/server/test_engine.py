"""The whole worker, `python -m headrace_worker`, over a tiny random Llama made here: front and real engine together."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from openai import OpenAI
from safetensors.numpy import save_file

from headrace_api import names
from headrace_api.frames import FrameReader, Resume

Until = Callable[[Callable[[], object]], None]
HIDDEN, LAYERS, HEADS, KV_HEADS, INNER, VOCABULARY = 32, 2, 4, 2, 64, 260
pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def llama_dir(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of random weights beside the tiny tokenizer."""
    folder = tmp_path_factory.mktemp("llama") / "model"
    shutil.copytree(model_dir, folder)
    draw = np.random.default_rng(7)
    shapes = {"model.embed_tokens": (VOCABULARY, HIDDEN), "lm_head": (VOCABULARY, HIDDEN), "model.norm": (HIDDEN,)}
    sizes = {"q": HIDDEN, "k": HIDDEN * KV_HEADS // HEADS, "v": HIDDEN * KV_HEADS // HEADS, "o": HIDDEN}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        shapes |= {f"{at}.self_attn.{part}_proj": (size, HIDDEN) for part, size in sizes.items()}
        shapes |= {f"{at}.mlp.{part}_proj": (INNER, HIDDEN) for part in ("gate", "up")}
        shapes |= {f"{at}.mlp.down_proj": (HIDDEN, INNER)}
        shapes |= {f"{at}.{norm}": (HIDDEN,) for norm in ("input_layernorm", "post_attention_layernorm")}
    tensors = {f"{name}.weight": draw.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 512,
        "eos_token_id": 259,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class Worker:
    """A running worker."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
        self.process = process
        self.client = httpx.Client(base_url=url, timeout=30, trust_env=False)
        self.log = log

    def metric(self, line: str) -> float:
        """Return the value of the metric whose line begins so."""
        lines = self.client.get("/metrics").text.splitlines()
        return float(next(one for one in lines if one.startswith(line)).rpartition(" ")[2])


@pytest.fixture(scope="module")
def worker(llama_dir: Path, tmp_path_factory: pytest.TempPathFactory, until: Until) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("worker")
    ready_file = folder / "ready.json"
    command = [sys.executable, "-m", "headrace_worker", "--model", f"file://{llama_dir}", "--name", "tiny"]
    command += ["--dtype", "float32", "--threads", "1", "--ready-file", str(ready_file)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, start_new_session=True)
    try:
        until(lambda: ready_file.exists() or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text()
        worker = Worker(process, json.loads(ready_file.read_text())["url"], folder / "log")
        with worker.client as client:
            until(lambda: client.get("/ready").status_code == 200 or process.poll() is not None)
            yield worker
        process.terminate()
        assert process.wait(20) == 0, "SIGTERM ends an idle worker in order"
        assert "Traceback" not in worker.log.read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "prompt": "hello world", "seed": 5, "max_tokens": 24, "ignore_eos": True, **fields}


def test_the_openai_client_chats_with_strict_validation(worker: Worker) -> None:
    base = f"{str(worker.client.base_url).rstrip('/')}/v1"
    with OpenAI(base_url=base, api_key="none", _strict_response_validation=True) as client:
        ask: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 12}
        ask |= {"temperature": 0, "logprobs": True, "top_logprobs": 3}
        whole = client.chat.completions.create(**ask)
        chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    told = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert told == whole.choices[0].message.content
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    for entry in logprobs.content or []:
        assert entry.logprob == pytest.approx(entry.top_logprobs[0].logprob), "greedy takes the best"


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"temperature": 1.0, "n": 3}, {"stop": ["e"]}])
@pytest.mark.parametrize("stream", [False, True])
def test_a_resumed_answer_equals_the_undisturbed_one(worker: Worker, fields: dict[str, Any], *, stream: bool) -> None:
    request = body(stream=stream, **fields)
    headers = {names.HEADER_FRAMES: "1", names.HEADER_REQUEST_ID: "r", names.HEADER_CREATED: "1"}
    whole = list(FrameReader().feed(worker.client.post("/v1/completions", json=request, headers=headers).content))
    for forwarded in (1, len(whole) // 2, len(whole) - 1):
        resume = Resume(json.dumps(request).encode(), tuple(head for head, _ in whole[:forwarded]))
        answer = worker.client.post(
            "/v1/completions",
            content=msgspec.msgpack.encode(resume),
            headers={**headers, "content-type": names.MEDIA_RESUME},
        )
        rest = [payload for _, payload in FrameReader().feed(answer.content)]
        assert told(rest, stream=stream) == told([payload for _, payload in whole[forwarded:]], stream=stream)


def told(payloads: list[bytes], *, stream: bool) -> object:
    """Return what an answer says by choice: steps of several choices may interleave in another order."""
    data = b"".join(payloads)
    if not stream:
        return json.loads(data)
    texts: dict[int, str] = {}
    for line in data.split(b"\n\n")[:-2]:
        for choice in json.loads(line.removeprefix(b"data: "))["choices"]:
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"] + (choice["finish_reason"] or "")
    return texts


def test_a_client_that_leaves_frees_its_blocks(worker: Worker, until: Until) -> None:
    request = body(max_tokens=400, stream=True)
    with worker.client.stream("POST", "/v1/completions", json=request) as answer:
        next(answer.iter_bytes())
    until(lambda: worker.metric(f'{names.KV_BLOCKS}{{model="tiny",state="active"') == 0)
    assert worker.metric(f'{names.REQUESTS}_total{{model="tiny",outcome="cancelled"') == 1


def test_a_context_that_is_full_ends_the_answer_by_length(worker: Worker) -> None:
    answer = worker.client.post("/v1/completions", json=body(prompt=[5] * 500, max_tokens=None)).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["total_tokens"] == 512
