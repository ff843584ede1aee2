"""The base class of weight files.

Matrices have canonical names, the same for every format: `embed`, `head`, `norm`, and for layer i
`i.attn_norm`, `i.q`, `i.k`, `i.v`, `i.o`, `i.ffn_norm`, `i.gate`, `i.up`, `i.down`; biases end in `_bias`. Where there
are experts, `i.router`, `i.experts.e.gate` and so on, `i.shared.gate` and so on, `i.shared_gate`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from headrace_worker.errors import ModelError
from headrace_worker.kernels.cpu import GROUP, Kind, Packed
from headrace_worker.models.config import ModelConfig

Tensor = torch.Tensor
DENSE_KINDS = {torch.float32: Kind.F32, torch.bfloat16: Kind.BF16, torch.float16: Kind.F16}


@dataclass(frozen=True, slots=True)
class Cut:
    """The part of a matrix (O, I) that one rank reads; None is all of it."""

    rows: range | None = None
    """Outputs."""
    columns: range | None = None
    """Inputs."""


WHOLE: Final = Cut()


class Checkpoint(ABC):
    """An open weight file; tensors are read one at a time, so that memory never holds the model twice."""

    config: ModelConfig

    @abstractmethod
    def matrix(self, name: str, dtype: torch.dtype, cut: Cut = WHOLE) -> Packed:
        """Return a part of a matrix in its stored form, or in `dtype` where no kernel reads that form.

        Raises:
            ModelError: the file has no such tensor, or stores it in groups that the cut would part.
        """

    @abstractmethod
    def matrix_shape(self, name: str) -> tuple[int, ...]:
        """Return the whole matrix's (O, I); raise ModelError where the file has none."""

    @abstractmethod
    def vector(self, name: str) -> Tensor | None:
        """Return a norm's weight or a bias as float32, None where the file has none."""

    @abstractmethod
    def size_bytes(self) -> int:
        """Return the bytes of all tensors."""

    def rope_factors(self) -> Tensor | None:
        """Return divisors of the rotary frequencies, where the file brings them."""
        return None

    def required_matrix(self, name: str, dtype: torch.dtype, cut: Cut = WHOLE) -> Packed:
        """Return a matrix; raise ModelError where it is missing or has another shape than the config says."""
        self._check_shape(name, self.matrix_shape(name))
        return self.matrix(name, dtype, cut)

    def required_vector(self, name: str) -> Tensor:
        """Return a vector; raise ModelError where it is missing or has another shape than the config says."""
        found = self.vector(name)
        if found is None:
            raise ModelError(f"the model file has no tensor for {name!r}; is it complete, and of the Llama family?")
        self._check_shape(name, tuple(found.shape))
        return found

    def _check_shape(self, name: str, found: tuple[int, ...]) -> None:
        """Refuse a tensor that the kernels, which trust the config, would read or write beyond its end."""
        expected = self.config.shape(name)
        if found != expected:
            raise ModelError(f"the tensor {name!r} has the shape {found}; the model's config says {expected}")


def check_groups(name: str, columns: range, kind: str) -> None:
    """Raise ModelError where a cut would part groups of inputs that share a scale."""
    if columns.start % GROUP or columns.stop % GROUP:
        raise ModelError(
            f"the tensor {name!r} is stored as {kind} in groups of {GROUP} inputs, and a rank would hold inputs "
            f"{columns.start} to {columns.stop - 1}; use fewer tensor-parallel ranks, or a file in float16 or bfloat16"
        )


def refuse_biases(path: Path, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise ModelError where tensors `names` hold a bias of another projection than `known`: it would be left out."""
    unknown = sorted(name for name in names if name.endswith(".bias") and name.split(".")[-2] not in known)
    if unknown:
        raise ModelError(
            f"{path} has the tensor {unknown[0]}; this worker knows biases of queries, keys and values only"
        )
