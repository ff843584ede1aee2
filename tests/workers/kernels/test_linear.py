import pytest
import torch
from tests.workers.kernels.weights import random_packed

from headrace_worker.kernels.cpu import Kernels, Kind, Packed
from headrace_worker.layers.unpack import unpack

ROWS = (*range(1, 10), 17, 40)
OUTPUTS = (1, 3, 67, 130)
INPUTS = 96


def random_rows(count: int, inputs: int = INPUTS) -> torch.Tensor:
    return torch.randn(count, inputs, generator=torch.Generator().manual_seed(count))


def expected(x: torch.Tensor, weight: Packed) -> torch.Tensor:
    return (x.double() @ unpack(weight, torch.float64).T).float()


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("outputs", OUTPUTS)
def test_a_product_equals_torch_for_every_kind_of_weight_and_number_of_rows(
    kernels: Kernels, kind: Kind, outputs: int
) -> None:
    weight = random_packed(kind, outputs, INPUTS)
    for rows in ROWS:
        x = random_rows(rows)
        out = torch.full((rows, outputs), torch.nan)
        kernels.linear(x, weight, out)
        torch.testing.assert_close(out, expected(x, weight), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("kind", Kind)
def test_a_product_may_be_added_to_what_is_there(kernels: Kernels, kind: Kind) -> None:
    weight = random_packed(kind, 65, INPUTS)
    for rows in ROWS:
        x, residual = random_rows(rows), torch.randn(rows, 65)
        out = residual.clone()
        kernels.linear(x, weight, out, add=True)
        torch.testing.assert_close(out, residual + expected(x, weight), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("add", [False, True])
def test_a_product_fills_columns_of_a_wider_tensor_and_nothing_beside_them(kernels: Kernels, *, add: bool) -> None:
    weight = random_packed(Kind.Q4, 67, INPUTS)
    x, wide = random_rows(9), torch.ones(9, 80)
    kernels.linear(x, weight, wide[:, 5:72], add=add)
    torch.testing.assert_close(wide[:, 5:72], expected(x, weight) + add, rtol=1e-5, atol=2e-5)
    assert wide[:, :5].eq(1).all()
    assert wide[:, 72:].eq(1).all()


@pytest.mark.parametrize("kind", Kind)
def test_a_row_has_the_same_product_to_the_bit_whatever_rows_are_beside_it(kernels: Kernels, kind: Kind) -> None:
    weight = random_packed(kind, 67, 256)
    x = random_rows(23, 256)
    together, alone = torch.empty(23, 67), torch.empty(1, 67)
    kernels.linear(x, weight, together)
    for row in range(23):
        kernels.linear(x[row : row + 1], weight, alone)
        assert torch.equal(together[row], alone[0])


def test_no_rows_make_no_product(kernels: Kernels) -> None:
    out = torch.empty(0, 67)
    kernels.linear(torch.empty(0, INPUTS), random_packed(Kind.Q8, 67, INPUTS), out)
    assert out.shape == (0, 67)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_rows_of_a_matrix_expand_to_its_values(kernels: Kernels, kind: Kind, dtype: torch.dtype) -> None:
    weight = random_packed(kind, 70, INPUTS)
    found, wanted = kernels.expand(weight, dtype), unpack(weight, dtype)
    if kind is Kind.Q4:  # a fused multiply-add rounds once where torch rounds twice
        torch.testing.assert_close(found, wanted, rtol=1e-2 if dtype is torch.bfloat16 else 1e-6, atol=1e-7)
    else:
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_expand_in_the_order_of_their_ids_and_as_often_as_asked(
    kernels: Kernels, kind: Kind, dtype: torch.dtype
) -> None:
    weight = random_packed(kind, 70, INPUTS)
    ids = torch.tensor([69, 0, 3, 3, 68] * 20)
    assert torch.equal(kernels.expand(weight, dtype, ids), kernels.expand(weight, dtype)[ids])


def test_special_float16_values_survive_expansion(kernels: Kernels) -> None:
    bits = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16)
    every = bits.view(torch.float16).view(1, -1)
    found = kernels.expand(Packed(every, Kind.F16, every.shape[1], 1), torch.float32)
    torch.testing.assert_close(found, every.float(), rtol=0, atol=0, equal_nan=True)


def test_rounding_to_bfloat16_is_to_nearest_even_and_keeps_nan_and_infinity(kernels: Kernels) -> None:
    close = torch.tensor([1.00390625, 1.01171875, torch.nan, torch.inf, -torch.inf, 3.4e38, 1e-40, -0.0])
    values = torch.cat((close, torch.randn(24))).view(1, 32)
    found = kernels.expand(Packed(values, Kind.F32, 32, 1), torch.bfloat16)
    torch.testing.assert_close(found, values.to(torch.bfloat16), rtol=0, atol=0, equal_nan=True)
