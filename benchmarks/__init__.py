"""Every figure that the documentation quotes, each beside its peer in the same run; `python -m benchmarks`."""
