"""How long to pause before a restart, as a pure function."""


def pause_s(failures: int, first_s: float, most_s: float) -> float:
    """Return the pause after the given number of failures in a row (at least 1): doubling, bounded."""
    if failures < 1:
        raise ValueError(f"a pause follows at least one failure, not {failures}")
    doublings = min(failures - 1, 63)
    return min(most_s, first_s * float(2**doublings))
