"""Random packed weights of every kind, and what they stand for."""

import torch

from headrace_worker.kernels.cpu import GROUP, Kind, Packed

_DENSE = {Kind.F32: torch.float32, Kind.BF16: torch.bfloat16, Kind.F16: torch.float16}


def random_packed(kind: Kind, outputs: int, inputs: int, seed: int = 0) -> Packed:
    """Return a matrix (outputs, inputs) with entries of about one half."""
    generator = torch.Generator().manual_seed(seed)
    if kind in _DENSE:
        values = torch.randn(outputs, inputs, generator=generator) / 2
        return Packed(values.to(_DENSE[kind]), kind, inputs, outputs)
    shape = (outputs, inputs // GROUP)
    scale = torch.rand(*shape, 1, generator=generator) / (16 if kind is Kind.Q4 else 256)
    offset = -8 * scale + torch.randn(*shape, 1, generator=generator) / 16
    payload = 16 if kind is Kind.Q4 else GROUP
    stored = torch.randint(0, 256, (*shape, payload), generator=generator, dtype=torch.uint8)
    head = [scale, offset] if kind is Kind.Q4 else [scale]
    data = torch.cat([*(part.contiguous().view(torch.uint8) for part in head), stored], dim=-1)
    return Packed(data.view(outputs, -1), kind, inputs, outputs)
