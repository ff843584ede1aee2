"""The base class of weight files.

Matrices have canonical names, the same for every format: `embed`, `head`, `norm`, and for layer i
`i.attn_norm`, `i.q`, `i.k`, `i.v`, `i.o`, `i.ffn_norm`, `i.gate`, `i.up`, `i.down`; biases end in `_bias`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

import torch

from headrace_worker.errors import ModelError
from headrace_worker.kernels.cpu import Kind, Packed
from headrace_worker.models.config import ModelConfig

Tensor = torch.Tensor
DENSE_KINDS = {torch.float32: Kind.F32, torch.bfloat16: Kind.BF16, torch.float16: Kind.F16}


class Checkpoint(ABC):
    """An open weight file; tensors are read one at a time, so that memory never holds the model twice."""

    config: ModelConfig

    @abstractmethod
    def matrix(self, name: str, dtype: torch.dtype) -> Packed:
        """Return a matrix in its stored form, or in `dtype` where no kernel reads that form.

        Raises:
            ModelError: the file has no such tensor, or is cut off inside it.
        """

    @abstractmethod
    def vector(self, name: str) -> Tensor | None:
        """Return a norm's weight or a bias as float32, None where the file has none."""

    @abstractmethod
    def size_bytes(self) -> int:
        """Return the bytes of all tensors."""

    def rope_factors(self) -> Tensor | None:
        """Return divisors of the rotary frequencies, where the file brings them."""
        return None

    def required_matrix(self, name: str, dtype: torch.dtype) -> Packed:
        """Return a matrix; raise ModelError where it is missing or has another shape than the config says."""
        found = self.matrix(name, dtype)
        self._check_shape(name, (found.outputs, found.inputs))
        return found

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


def refuse_biases(path: Path, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise ModelError where tensors `names` hold a bias of another projection than `known`: it would be left out."""
    unknown = sorted(name for name in names if name.endswith(".bias") and name.split(".")[-2] not in known)
    if unknown:
        raise ModelError(
            f"{path} has the tensor {unknown[0]}; this worker knows biases of queries, keys and values only"
        )
