"""Mixtures of experts: the same logits as transformers, and copies that change no result."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tests.workers.models.tiny import (
    VOCABULARY,
    eager_backend,
    load_decoder,
    native_backend,
    prompt_logits,
    randomized,
    reference_logits,
)

from headrace_worker.layers.backend import Backend
from headrace_worker.models.pick import open_checkpoint
from headrace_worker.parallel.balance import rank_load, replicate

SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": None,
}


def mixtral() -> Any:
    config = transformers.MixtralConfig(**SIZES, num_local_experts=5, num_experts_per_tok=2, sliding_window=None)
    return randomized(transformers.MixtralForCausalLM(config), 1)


def qwen(*, normalize: bool = False) -> Any:
    own = {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 64, "num_experts": 6}
    config = transformers.Qwen2MoeConfig(**SIZES, **own, num_experts_per_tok=3, norm_topk_prob=normalize)
    model: Any = transformers.Qwen2MoeForCausalLM
    return randomized(model(config), 2)


MODELS: dict[str, Callable[[], Any]] = {
    "mixtral": mixtral,
    "qwen": qwen,
    "qwen normalized": lambda: qwen(normalize=True),
}


@pytest.mark.parametrize("backend", [eager_backend(), native_backend()], ids=["eager", "native"])
@pytest.mark.parametrize("name", MODELS)
def test_logits_equal_those_of_transformers(tmp_path: Path, name: str, backend: Backend) -> None:
    model = MODELS[name]()
    model.save_pretrained(tmp_path)
    ids = torch.randint(VOCABULARY, (70,), generator=torch.Generator().manual_seed(3)).tolist()
    decoder = load_decoder(tmp_path, backend)
    for chunks in ((), (48, 16, 1)):
        torch.testing.assert_close(
            prompt_logits(decoder, ids, chunks), reference_logits(model, ids), rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("name", ["mixtral", "qwen"])
def test_each_token_is_counted_at_the_experts_that_transformers_sends_it_to(tmp_path: Path, name: str) -> None:
    model = MODELS[name]()
    model.save_pretrained(tmp_path)
    ids = torch.randint(VOCABULARY, (50,), generator=torch.Generator().manual_seed(4)).tolist()
    decoder = load_decoder(tmp_path, eager_backend())
    prompt_logits(decoder, ids, (32,))
    with torch.inference_mode():
        routers = model(torch.tensor([ids]), output_router_logits=True).router_logits
    each = 2 if name == "mixtral" else 3
    chosen = [router.topk(each, dim=-1).indices.flatten() for router in routers]
    wanted = {layer: experts.bincount(minlength=routers[0].shape[1]).tolist() for layer, experts in enumerate(chosen)}
    assert decoder.expert_tokens() == wanted


def test_the_config_of_a_mixture_is_read(tmp_path: Path) -> None:
    qwen().save_pretrained(tmp_path)
    experts = open_checkpoint(tmp_path).config.experts
    assert experts is not None
    assert (experts.count, experts.per_token, experts.intermediate) == (6, 3, 32)
    assert (experts.shared_intermediate, experts.normalize) == (64, False)


LOADS = st.lists(st.integers(0, 1000), min_size=4, max_size=16)


@given(load=LOADS, ranks=st.integers(1, 4), spares=st.integers(0, 2))
def test_copies_never_raise_the_busiest_ranks_load(load: list[int], ranks: int, spares: int) -> None:
    homes = [number * ranks // len(load) for number in range(len(load))]
    places = replicate(load, homes, ranks, spares)
    assert [place[0] for place in places] == homes
    assert all(len(set(place)) == len(place) for place in places)
    for rank in range(ranks):
        assert sum(rank in place[1:] for place in places) <= spares
    assert max(rank_load(load, places, ranks)) <= max(rank_load(load, [[home] for home in homes], ranks))


def test_a_hot_expert_is_copied_to_the_idle_rank() -> None:
    assert replicate([90, 5, 5, 0], [0, 0, 1, 1], 2, 1) == [(0, 1), (0,), (1,), (1,)]
