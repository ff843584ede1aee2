"""Which ranks hold which experts of a layer: every expert has a home, and hot ones copies on ranks with room.

Pure: counts in, places out. A copy has the weights of the original, so where a token is computed changes no result.
"""

from collections.abc import Sequence


def replicate(load: Sequence[int], homes: Sequence[int], ranks: int, spares: int) -> list[tuple[int, ...]]:
    """Return for each expert the ranks that hold it, its home first.

    One copy after the other goes where it lowers the largest share: of the expert with the most tokens per copy that
    can still be copied, to the rank with the fewest tokens that has room.

    Args:
        load: tokens that each expert had.
        homes: the rank of each expert's original.
        ranks: how many there are.
        spares: copies that a rank has room for.
    """
    places = [[home] for home in homes]
    room = [spares] * ranks
    for _ in range(ranks * spares):
        shares = rank_load(load, places, ranks)
        free = [rank for rank in range(ranks) if room[rank]]
        wanted = [expert for expert in range(len(load)) if any(rank not in places[expert] for rank in free)]
        if not wanted:
            break
        expert = max(wanted, key=lambda number: (load[number] / len(places[number]), -number))
        rank = min((rank for rank in free if rank not in places[expert]), key=lambda number: (shares[number], number))
        tried = [*places[:expert], [*places[expert], rank], *places[expert + 1 :]]
        if max(rank_load(load, tried, ranks)) >= max(shares):
            break
        places, room[rank] = tried, room[rank] - 1
    return [tuple(place) for place in places]


def rank_load(load: Sequence[int], places: Sequence[Sequence[int]], ranks: int) -> list[float]:
    """Return the tokens of each rank when every expert's are shared evenly by its copies."""
    shares = [0.0] * ranks
    for tokens, place in zip(load, places, strict=True):
        for rank in place:
            shares[rank] += tokens / len(place)
    return shares
