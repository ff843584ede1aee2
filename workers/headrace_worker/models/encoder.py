"""Text encoders of the BERT family: token ids to one vector per text.

Post-norm transformer (Devlin et al. 2019, arXiv 1810.04805) with learnt absolute positions, then pooling and
normalization as the folder's `modules.json` names them. Computes in float32: these models are small, and whoever
compares vectors of two workers must find them equal.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn import functional

from headrace_worker.errors import ModelError
from headrace_worker.models.architecture import ENCODERS

Tensor = torch.Tensor
Pooling = Literal["mean", "first"]
_ACTIVATIONS = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Sizes of an encoder; all counts, `norm_eps` without unit."""

    num_layers: int
    hidden: int
    intermediate: int
    heads: int
    vocabulary: int
    max_context: int
    """Most tokens of one text, its first and last token included."""
    pad_id: int
    norm_eps: float
    activation: str
    """How GELU is computed: `none` (exactly) or `tanh`."""
    pooling: Pooling
    normalized: bool
    """Whether vectors have length 1."""


class Encoder:
    """The weights, and nothing between two calls."""

    def __init__(self, config: EncoderConfig, tensors: dict[str, Tensor]) -> None:
        self.config = config
        self._tensors = tensors
        self._check()

    def embed(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Return the vectors of texts as (texts, hidden) float32, on the weights' device.

        Args:
            texts: ids of each, 1 to `max_context` of them, its special tokens included.
        """
        device = self._tensors["embeddings.word_embeddings.weight"].device
        lengths = torch.tensor([len(ids) for ids in texts], device=device)
        longest = max(len(ids) for ids in texts)
        rows = [[*ids, *[self.config.pad_id] * (longest - len(ids))] for ids in texts]
        real = torch.arange(longest, device=device) < lengths[:, None]
        with torch.inference_mode():
            x = self._input(torch.tensor(rows, device=device))
            for number in range(self.config.num_layers):
                x = self._layer(f"encoder.layer.{number}", x, real)
            return self._pooled(x, real)

    def tensors(self) -> list[Tensor]:
        """Return all weights."""
        return list(self._tensors.values())

    def _input(self, ids: Tensor) -> Tensor:
        """Return (texts, T, hidden) of ids (texts, T): word, position and the first token type."""
        table = self._tensors
        x = table["embeddings.word_embeddings.weight"][ids]
        x = x + table["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = x + table["embeddings.token_type_embeddings.weight"][0]
        return self._norm("embeddings.LayerNorm", x)

    def _layer(self, name: str, x: Tensor, real: Tensor) -> Tensor:
        count, length, hidden = x.shape
        heads = self.config.heads

        def split(part: str) -> Tensor:
            whole = self._linear(f"{name}.attention.self.{part}", x)
            return whole.view(count, length, heads, hidden // heads).transpose(1, 2)

        attended = functional.scaled_dot_product_attention(
            split("query"), split("key"), split("value"), attn_mask=real[:, None, None, :]
        )
        attended = attended.transpose(1, 2).reshape(count, length, hidden)
        x = self._norm(
            f"{name}.attention.output.LayerNorm", x + self._linear(f"{name}.attention.output.dense", attended)
        )
        inner = functional.gelu(self._linear(f"{name}.intermediate.dense", x), approximate=self.config.activation)
        return self._norm(f"{name}.output.LayerNorm", x + self._linear(f"{name}.output.dense", inner))

    def _pooled(self, x: Tensor, real: Tensor) -> Tensor:
        if self.config.pooling == "first":
            pooled = x[:, 0]
        else:
            weights = real[..., None].to(x.dtype)
            pooled = (x * weights).sum(1) / weights.sum(1)
        return functional.normalize(pooled, dim=-1) if self.config.normalized else pooled

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]
        return functional.layer_norm(x, weight.shape, weight, bias, self.config.norm_eps)

    def _check(self) -> None:
        """Refuse tensors that are missing or have another shape than the config says."""
        for name, shape in _shapes(self.config).items():
            found = self._tensors.get(name)
            if found is None:
                raise ModelError(f"the model has no tensor {name!r}; is it complete, and of the BERT family?")
            if tuple(found.shape) != shape:
                raise ModelError(f"the tensor {name!r} has the shape {tuple(found.shape)}; the config says {shape}")


def open_encoder(folder: Path, device: torch.device) -> Encoder:
    """Read an encoder in the hub's layout; raise ModelError where it is none, incomplete, or of an unknown kind."""
    config = _read_config(folder)
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            tensors.update(load_file(file, device=str(device)))
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file} is no complete safetensors file: {error}") from error
    if not tensors:
        raise ModelError(f"{folder} has no .safetensors files")
    return Encoder(config, {name.removeprefix("bert."): tensor.float() for name, tensor in tensors.items()})


def _read_config(folder: Path) -> EncoderConfig:
    raw = _read(folder / "config.json")
    architecture = (raw.get("architectures") or ["unknown"])[0]
    if architecture not in ENCODERS:
        raise ModelError(
            f"{folder} holds a {architecture!r} model; as encoders this worker runs: {', '.join(ENCODERS)}"
        )
    positions = raw.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise ModelError(f"{folder}: positions of kind {positions!r} are not known; this worker knows 'absolute'")
    activation = raw.get("hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        raise ModelError(f"{folder}: the activation {activation!r} is not known; known are {', '.join(_ACTIVATIONS)}")
    modules = _modules(folder)
    try:
        bound = int(raw["max_position_embeddings"])
        trained = _read(folder / "sentence_bert_config.json", absent={}).get("max_seq_length") or bound
        return EncoderConfig(
            num_layers=int(raw["num_hidden_layers"]),
            hidden=int(raw["hidden_size"]),
            intermediate=int(raw["intermediate_size"]),
            heads=int(raw["num_attention_heads"]),
            vocabulary=int(raw["vocab_size"]),
            max_context=min(bound, int(trained)),
            pad_id=int(raw.get("pad_token_id") or 0),
            norm_eps=float(raw.get("layer_norm_eps", 1e-12)),
            activation=_ACTIVATIONS[activation],
            pooling=_pooling(folder, modules),
            normalized="Normalize" in modules,
        )
    except KeyError as error:
        raise ModelError(f"{folder}/config.json lacks the field {error}") from error
    except (TypeError, ValueError) as error:
        raise ModelError(f"{folder}/config.json describes no encoder: {error}") from error


def _modules(folder: Path) -> dict[str, str]:
    """Return the folder of each module, by the last word of its type."""
    file = folder / "modules.json"
    if not file.is_file():
        return {}
    try:
        listed = json.loads(file.read_bytes())
        return {str(module["type"]).rpartition(".")[2]: str(module["path"]) for module in listed}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} lists no modules of an encoder ({error}); fetch the model again") from error


def _pooling(folder: Path, modules: dict[str, str]) -> Pooling:
    """Return how tokens become one vector: the mean, unless the pooling module's own config asks for the first."""
    raw = _read(folder / modules.get("Pooling", "1_Pooling") / "config.json", absent={})
    asked = [name for name, wanted in raw.items() if name.startswith("pooling_mode_") and wanted is True]
    if not asked or asked == ["pooling_mode_mean_tokens"]:
        return "mean"
    if asked == ["pooling_mode_cls_token"]:
        return "first"
    raise ModelError(f"{folder} pools by {', '.join(asked)}; this worker knows mean_tokens or cls_token alone")


def _shapes(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    hidden, inner = config.hidden, config.intermediate
    shapes: dict[str, tuple[int, ...]] = {"embeddings.word_embeddings.weight": (config.vocabulary, hidden)}
    squares = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    norms = ["embeddings.LayerNorm"]
    for number in range(config.num_layers):
        layer = f"encoder.layer.{number}"
        matrices = dict.fromkeys(squares, (hidden, hidden))
        matrices |= {"intermediate.dense": (inner, hidden), "output.dense": (hidden, inner)}
        for part, (outputs, inputs) in matrices.items():
            shapes |= {f"{layer}.{part}.weight": (outputs, inputs), f"{layer}.{part}.bias": (outputs,)}
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for norm in norms:
        shapes |= {f"{norm}.weight": (hidden,), f"{norm}.bias": (hidden,)}
    return shapes


def _read(path: Path, absent: dict[str, Any] | None = None) -> dict[str, Any]:
    if absent is not None and not path.is_file():
        return absent
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}); fetch the model again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds a {type(value).__name__}, expected a JSON object")
    return value
