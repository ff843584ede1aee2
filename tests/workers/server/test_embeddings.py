"""A real worker over a small random encoder made here, beside transformers' own computation of it."""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import torch
from openai import OpenAI
from transformers import BertConfig, BertModel

Until = Callable[[Callable[[], object]], None]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "why", "do", "rivers", "meander", "##ing", "?", ".", "water", "[", "]"]
CONTEXT = 48
pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder with mean pooling and vectors of length 1."""
    path = tmp_path_factory.mktemp("encoder") / "model"
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    model = BertModel(config)
    model.save_pretrained(path)
    saved = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**saved, "architectures": ["BertModel"]}))
    (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": CONTEXT}))
    modules = [{"idx": 0, "path": "", "type": "a.Transformer"}, {"idx": 1, "path": "1_Pooling", "type": "a.Pooling"}]
    (path / "modules.json").write_text(json.dumps([*modules, {"idx": 2, "path": "2", "type": "a.Normalize"}]))
    tokenizer = {
        "version": "1.0",
        "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "added_tokens": [
            {"id": place, "content": WORDS[place], "special": True, "single_word": False, "lstrip": False}
            | {"rstrip": False, "normalized": False}
            for place in range(4)
        ],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
        | {"strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
        | {"max_input_chars_per_word": 100, "vocab": {word: place for place, word in enumerate(WORDS)}},
    }
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    return path


@pytest.fixture(scope="module")
def url(folder: Path, tmp_path_factory: pytest.TempPathFactory, until: Until) -> Iterator[str]:
    at = tmp_path_factory.mktemp("worker")
    ready = at / "ready.json"
    fields = {"model": folder.as_uri(), "name": "words", "ready_file": str(ready), "device": "cpu", "threads": 1}
    (at / "settings.json").write_text(json.dumps(fields))
    command = [sys.executable, "-m", "headrace_worker", "--settings", str(at / "settings.json")]
    with (at / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, env=_environment(at), start_new_session=True)
    try:
        until(lambda: ready.exists() or process.poll() is not None)
        assert ready.exists(), (at / "log").read_text()
        address = json.loads(ready.read_text())["url"]
        until(lambda: process.poll() is not None or httpx.get(f"{address}/ready", timeout=30).status_code == 200)
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def _environment(at: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(at), "PYTHONPATH": os.pathsep.join(sys.path)}


def ask(url: str, **fields: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/embeddings", json={"model": "words", **fields}, timeout=20)


def vectors(response: httpx.Response) -> npt.NDArray[np.float32]:
    assert response.status_code == 200, response.text
    return np.array([one["embedding"] for one in response.json()["data"]], dtype=np.float32)


def reference(folder: Path, ids: list[int]) -> npt.NDArray[np.float32]:
    model = BertModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        pooled = model(torch.tensor([ids])).last_hidden_state[0].mean(0)
    return np.asarray(torch.nn.functional.normalize(pooled, dim=-1).numpy(), dtype=np.float32)


def test_vectors_equal_the_reference_whatever_shares_their_batch(folder: Path, url: str) -> None:
    texts = ["Why do rivers meander?", "water", "rivers meandering. " * 10, ""]
    ids = [[2, 4, 5, 6, 7, 9, 3], [2, 11, 3], [2, *[6, 7, 8, 10] * 10, 3], [2, 3]]
    response = ask(url, input=texts)
    found = vectors(response)
    assert response.json()["usage"] == {"prompt_tokens": sum(map(len, ids)), "total_tokens": sum(map(len, ids))}
    for vector, text_ids in zip(found, ids, strict=True):
        assert np.abs(vector - reference(folder, text_ids)).max() < 1e-5
    assert np.abs(vectors(ask(url, input=texts[0])) - found[0]).max() < 1e-5
    assert np.abs(vectors(ask(url, input=ids[0])) - found[0]).max() < 1e-5
    assert np.abs(vectors(ask(url, input=[ids[1], texts[0]])) - found[[1, 0]]).max() < 1e-5


def test_many_texts_come_back_in_order(url: str) -> None:
    texts = ["water " * (1 + number % 7) for number in range(50)]
    found = vectors(ask(url, input=texts))
    for number in range(50):
        assert np.abs(found[number] - found[number % 7]).max() < 1e-5
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_base64_holds_the_same_numbers_and_the_openai_client_reads_it(url: str) -> None:
    plain = vectors(ask(url, input="water", encoding_format="float"))[0]
    told = ask(url, input="water", encoding_format="base64").json()["data"][0]["embedding"]
    assert np.array_equal(np.frombuffer(base64.b64decode(told), dtype="<f4"), plain)
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    answer = client.embeddings.create(model="words", input=["water"])
    assert np.allclose(answer.data[0].embedding, plain, atol=1e-7)


def test_dimensions_keep_the_first_numbers_at_length_one(url: str) -> None:
    whole, part = vectors(ask(url, input="water"))[0], vectors(ask(url, input="water", dimensions=8))[0]
    assert part.shape == (8,)
    assert np.allclose(part, whole[:8] / np.linalg.norm(whole[:8]), atol=1e-6)


def test_special_tokens_in_a_text_stay_text(url: str) -> None:
    assert ask(url, input="[SEP]").json()["usage"]["prompt_tokens"] == 5  # [CLS] [ sep ] [SEP], "sep" unknown


def test_a_long_text_is_refused_or_cut_as_asked(folder: Path, url: str) -> None:
    refused = ask(url, input="water " * 60)
    assert refused.status_code == 400
    assert "A text of 62 tokens is longer than the 48" in refused.json()["error"]["message"]
    cut = vectors(ask(url, input="water " * 60, truncate_prompt_tokens=-1))[0]
    assert np.abs(cut - reference(folder, [2, *[11] * 46, 3])).max() < 1e-5


@pytest.mark.parametrize(
    ("fields", "status", "expected"),
    [
        ({"input": []}, 400, "input holds 0 texts"),
        ({"input": "a", "dimensions": 65}, 400, "have 64 numbers"),
        ({"input": "a", "encoding_format": "hex"}, 400, "encoding_format is wrong"),
        ({"input": [[]]}, 400, "Token ids must be from 0 to 13"),
        ({"input": [99]}, 400, "Token ids must be from 0 to 13"),
        ({"input": "a", "dimension": 3}, 400, "did you mean 'dimensions'?"),
        ({"input": "a", "model": "gpt"}, 404, "this worker serves 'words'"),
        ({}, 400, "The field 'input' is missing"),
    ],
)
def test_what_cannot_be_served_is_a_sentence(url: str, fields: dict[str, Any], status: int, expected: str) -> None:
    response = ask(url, **fields)
    assert response.status_code == status
    assert expected in response.json()["error"]["message"]


def test_an_encoder_generates_nothing(url: str) -> None:
    body = {"model": "words", "prompt": "water"}
    response = httpx.post(f"{url}/v1/completions", json=body, timeout=20)
    assert response.status_code == 400
    assert "is an encoder, which generates nothing" in response.json()["error"]["message"]


def test_an_encoder_refuses_a_part_in_hand_offs(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "headrace_worker", "--model", folder.as_uri(), "--name", "words"]
    ended = subprocess.run(
        [*command, "--role", "decode", "--device", "cpu"],
        capture_output=True,
        env=_environment(tmp_path),
        timeout=60,
        check=False,
        text=True,
    )
    assert ended.returncode == 2
    assert "set disaggregation: never in its LLMDeployment" in ended.stderr
