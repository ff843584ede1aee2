"""Random numbers that depend on seed, choice and position only: a replayed or moved sequence draws the same ones."""

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def uniform(seed: int, choice: int, position: int) -> float:
    """Return a number in [0, 1): SplitMix64 (Steele, Lea and Flood 2014) over the mixed arguments."""
    state = _mix(_mix(seed & _MASK) ^ _mix((choice + 1) * _GOLDEN & _MASK))
    return (_mix((state + (position + 1) * _GOLDEN) & _MASK) >> 11) * 2.0**-53


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
