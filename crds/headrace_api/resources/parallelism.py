"""How one worker divides a model among several devices."""

from pydantic import Field

from headrace_api.resources.meta import Part


class ParallelismSpec(Part):
    """How many devices each worker divides the model among. Prefill and decode workers do it alike."""

    tensor: int = Field(default=1, ge=1, le=64, examples=[2])
    """Devices that share the heads and columns of each layer (tensor parallelism). It must divide the model's query
    heads, and divide its key/value heads or be a multiple of them; a worker that finds another model says what is
    allowed. With accelerator `nvidia` a worker gets that many GPUs; on CPUs it runs as many processes, which share its
    threads."""
