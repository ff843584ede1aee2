"""Whether the cheap tier will do: difficulty of a prompt, a gate on answers, their model files and their curves.

Pure functions over numbers and text, in plain numpy: no client, no clock, no training. Models are JSON files that
`headrace cascade train` writes. Does not know tiers' addresses, prices, nor how a stream is held back.
"""
