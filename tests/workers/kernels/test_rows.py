import math

import pytest
import torch
from torch.nn import functional

from headrace_worker.kernels.cpu import Kernels

COUNTS = (0, 1, 3, 9, 40)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1, 7, 64, 576])
def test_the_norm_equals_torch(kernels: Kernels, dtype: torch.dtype, size: int) -> None:
    weight = torch.rand(size) + 0.5
    for count in COUNTS:
        x = torch.randn(count, size) * 3
        wanted = (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * weight).to(dtype)
        found = kernels.rms_norm(x, weight, 1e-5, dtype)
        torch.testing.assert_close(found, wanted, rtol=1e-2 if dtype is torch.bfloat16 else 1e-5, atol=1e-6)


def test_the_norm_of_a_zero_row_is_zero(kernels: Kernels) -> None:
    assert kernels.rms_norm(torch.zeros(1, 64), torch.ones(64), 1e-5, torch.float32).eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1, 31, 96])
def test_the_activation_equals_torch(kernels: Kernels, dtype: torch.dtype, size: int) -> None:
    for count in COUNTS:
        gate_up = (torch.randn(count, 2 * size) * 4).to(dtype)
        gate, up = gate_up.float().chunk(2, dim=-1)
        found = kernels.silu_mul(gate_up)
        wanted = (functional.silu(gate) * up).to(dtype)
        torch.testing.assert_close(found, wanted, rtol=1e-2 if dtype is torch.bfloat16 else 1e-5, atol=1e-6)


def test_the_activation_is_right_far_from_zero(kernels: Kernels) -> None:
    gates = torch.tensor([-1e4, -100.0, -87.5, -20.0, -0.0, 20.0, 100.0, 1e4])
    found = kernels.silu_mul(torch.cat((gates, torch.ones(8)))[None])
    torch.testing.assert_close(found[0], functional.silu(gates), rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("vocabulary", [2, 17, 1000])
def test_the_summary_equals_torch(kernels: Kernels, vocabulary: int) -> None:
    for count in COUNTS:
        logits = torch.randn(count, vocabulary) * 10
        summary = kernels.summarize(logits)
        two = logits.topk(2, dim=-1)
        assert torch.equal(summary.best, two.indices[:, 0])
        assert torch.equal(summary.most, two.values[:, 0])
        assert torch.equal(summary.second, two.values[:, 1])
        torch.testing.assert_close(summary.log_sum, logits.logsumexp(-1), rtol=1e-6, atol=1e-5)


def test_among_equal_logits_the_first_is_best_and_the_runner_up_is_equal(kernels: Kernels) -> None:
    logits = torch.zeros(1, 40)
    logits[0, [7, 9, 30]] = 5.0
    summary = kernels.summarize(logits)
    assert (summary.best.item(), summary.most.item(), summary.second.item()) == (7, 5.0, 5.0)


def test_the_best_logit_is_found_before_and_after_the_runner_up(kernels: Kernels) -> None:
    rows = torch.full((2, 33), -3.0)
    rows[0, 4], rows[0, 20] = 9.0, 8.0
    rows[1, 4], rows[1, 20] = 8.0, 9.0
    summary = kernels.summarize(rows)
    assert summary.best.tolist() == [4, 20]
    assert summary.second.tolist() == [8.0, 8.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 15, 32])
def test_nan_or_infinity_makes_the_sum_of_its_row_no_number_and_leaves_the_others(
    kernels: Kernels, bad: float, place: int
) -> None:
    logits = torch.randn(3, 33)
    wanted = logits.logsumexp(-1)
    logits[1, place] = bad
    found = kernels.summarize(logits).log_sum
    assert not math.isfinite(found[1].item())
    torch.testing.assert_close(found[[0, 2]], wanted[[0, 2]])


def test_a_row_of_minus_infinity_has_no_finite_sum(kernels: Kernels) -> None:
    assert not math.isfinite(kernels.summarize(torch.full((1, 33), -math.inf)).log_sum.item())


def test_impossible_tokens_weigh_nothing(kernels: Kernels) -> None:
    logits = torch.full((1, 33), -math.inf)
    logits[0, 5] = 2.0
    summary = kernels.summarize(logits)
    assert summary.best.item() == 5
    assert summary.log_sum.item() == pytest.approx(2.0)
