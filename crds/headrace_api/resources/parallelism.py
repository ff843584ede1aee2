"""How one worker divides a model among several devices."""

from typing import ClassVar

from pydantic import Field

from headrace_api.resources.meta import Part
from headrace_api.resources.rules import Rule


class ParallelismSpec(Part):
    """How many devices each worker divides the model among. Prefill and decode workers do it alike."""

    rules: ClassVar = (
        Rule(
            "self.?tensor.orValue(1) % self.?nodes.orValue(1) == 0",
            lambda spec: spec.tensor % spec.nodes == 0,
            "tensor is {tensor}, which {nodes} nodes cannot share evenly; make it a multiple of nodes",
            "nodes",
        ),
    )

    tensor: int = Field(default=1, ge=1, le=64, examples=[2])
    """Devices that share the heads and columns of each layer (tensor parallelism). It must divide the model's query
    heads, and divide its key/value heads or be a multiple of them; a worker that finds another model says what is
    allowed. With accelerator `nvidia` a worker gets that many GPUs; on CPUs it runs as many processes, which share its
    threads."""
    nodes: int = Field(default=1, ge=1, le=16, examples=[2])
    """Pods of each worker, which share its devices evenly; the scheduler may place each on a node of its own. With more
    than one, the first runs the head of a Ray cluster that the others join, and when any of them ends the whole worker
    starts again. Local mode runs all of a worker on its one machine."""
