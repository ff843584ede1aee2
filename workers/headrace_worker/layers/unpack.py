"""Packed weights to dense tensors in plain torch: slow, exact, for any device's loader and as the kernels' twin."""

import torch

from headrace_worker.kernels.cpu import Kind, Packed

Tensor = torch.Tensor


def unpack(packed: Packed, dtype: torch.dtype) -> Tensor:
    """Return the matrix as (O, I) in `dtype`; the values are computed in float32 first."""
    if packed.kind in {Kind.F32, Kind.BF16, Kind.F16}:
        return packed.data.view(packed.outputs, packed.inputs).to(dtype)
    groups = packed.data.view(packed.outputs, packed.inputs // 32, -1)
    scale = groups[..., :4].contiguous().view(torch.float32)
    if packed.kind is Kind.Q8:
        values = groups[..., 4:].contiguous().view(torch.int8).float() * scale
    else:
        nibbles = torch.cat((groups[..., 8:] & 15, groups[..., 8:] >> 4), dim=-1).float()
        values = nibbles * scale + groups[..., 4:8].contiguous().view(torch.float32)
    return values.reshape(packed.outputs, packed.inputs).to(dtype)
