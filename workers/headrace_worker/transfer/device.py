"""What a courier's thread needs of a GPU."""


def use_device(device: int | None) -> None:
    """Make the GPU current on this thread: UCX leaves its CUDA transports out otherwise."""
    if device is not None:
        # Imported here only: a CPU worker's hand-off needs no torch.
        import torch  # noqa: PLC0415

        torch.cuda.set_device(device)
