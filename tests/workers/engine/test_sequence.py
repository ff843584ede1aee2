import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headrace_worker
from headrace_api.sampling import Sampling
from headrace_worker.engine.sequence import Sequence, blocks_for, chain_hash

TOKENS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40)
PRINT_HASHES = """
from headrace_api.sampling import Sampling
from headrace_worker.engine.sequence import Sequence
sequence = Sequence("r", 0, tuple(range(40)), Sampling(max_tokens=1), 100, salt="tenant")
print(*(key.hex() for key in sequence.block_hashes(2, 16)))
"""


def sequence(prompt: list[int], output: list[int] | None = None, **changes: Any) -> Sequence:
    how = {"max_tokens": 8, **changes.pop("sampling", {})}
    return Sequence("r", 0, tuple(prompt), Sampling(**how), output_ids=output or [], **{"max_len": 100, **changes})


def test_hashes_are_equal_in_processes_that_hash_otherwise() -> None:
    folders = [str(Path(headrace_worker.__file__).parents[1]), *sys.path]
    printed = [
        subprocess.run(
            [sys.executable, "-c", PRINT_HASHES],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(folders)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    ]
    own = sequence(list(range(40)), salt="tenant").block_hashes(2, 16)
    assert printed[0].split() == printed[1].split() == [key.hex() for key in own]


@given(TOKENS, TOKENS, st.integers(1, 8))
def test_a_hash_stands_for_the_whole_prefix(first: list[int], second: list[int], block_size: int) -> None:
    ours, theirs = sequence(first), sequence(second)
    for count in range(1, min(len(first), len(second)) // block_size + 1):
        equal = first[: count * block_size] == second[: count * block_size]
        assert (ours.block_hashes(count, block_size)[-1] == theirs.block_hashes(count, block_size)[-1]) == equal


def test_salts_keep_equal_prompts_apart() -> None:
    hashes = {sequence([1, 2, 3, 4], salt=salt).block_hashes(1, 4)[0] for salt in ("", "a", "b")}
    assert len(hashes) == 3


def test_prompt_and_output_make_the_same_hash_as_a_longer_prompt() -> None:
    split, whole = sequence([1, 2, 3], [4, 5, 6]), sequence([1, 2, 3, 4, 5, 6])
    assert split.block_hashes(3, 2) == whole.block_hashes(3, 2)


def test_hashes_grow_with_the_output() -> None:
    growing = sequence([1, 2, 3])
    first = growing.block_hashes(1, 2)
    growing.output_ids.append(4)
    assert growing.block_hashes(2, 2)[:1] == first
    assert growing.block_hashes(2, 2)[1] == chain_hash(first[0], [3, 4])


@given(TOKENS, TOKENS, st.integers(0, 80), st.integers(0, 80))
def test_tokens_cross_from_prompt_to_output(prompt: list[int], output: list[int], start: int, stop: int) -> None:
    assert sequence(prompt, output).tokens(start, stop) == [*prompt, *output][start:stop]


@pytest.mark.parametrize(
    ("output", "sampling", "max_len", "reason"),
    [
        ([5], {}, 100, None),
        ([9], {"stop_ids": (8, 9)}, 100, "stop"),
        ([5, 9], {"stop_ids": (9,), "max_tokens": 2}, 100, "stop"),
        ([9, 5], {"stop_ids": (9,)}, 100, None),
        ([9], {"stop_ids": (9,), "min_tokens": 2}, 100, None),
        ([5, 9], {"stop_ids": (9,), "min_tokens": 2}, 100, "stop"),
        ([5, 5], {"max_tokens": 2}, 100, "length"),
        ([5, 5], {"max_tokens": 3}, 100, None),
        ([5, 5], {}, 6, None),
        ([5, 5], {}, 5, "length"),
    ],
)
def test_a_sequence_ends_for_its_reason(
    output: list[int], sampling: dict[str, Any], max_len: int, reason: str | None
) -> None:
    assert sequence([1, 2, 3], output, sampling=sampling, max_len=max_len).finish_reason() == reason


def test_a_sequence_decodes_when_only_its_newest_token_lacks_kv() -> None:
    one = sequence([1, 2, 3])
    one.computed = 2
    assert (one.pending, one.decoding) == (1, False)
    one.computed = 3
    one.output_ids.append(4)
    assert (one.pending, one.decoding) == (1, True)
    one.computed = 1
    assert (one.pending, one.decoding) == (3, False)


@pytest.mark.parametrize(("tokens", "blocks"), [(0, 0), (1, 1), (16, 1), (17, 2), (32, 2)])
def test_blocks_for_tokens(tokens: int, blocks: int) -> None:
    assert blocks_for(tokens, 16) == blocks
