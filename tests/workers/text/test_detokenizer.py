from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace_worker.text import Detokenizer, Vocabulary, load_vocabulary

BIASED = st.one_of(
    st.integers(0, 280), st.sampled_from([2 + byte for byte in "aé漢🙂".encode()]), st.integers(2 + 0x80, 2 + 0xFF)
)


@pytest.fixture
def vocabulary(write_gguf: Callable[..., Path], byte_level: dict[str, Any]) -> Vocabulary:
    return load_vocabulary(write_gguf(byte_level))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.lists(BIASED, max_size=30))
def test_everything_fed_and_flushed_is_the_decoded_output(vocabulary: Vocabulary, ids: list[int]) -> None:
    detokenizer = Detokenizer(vocabulary)
    fed = [detokenizer.feed(token_id) for token_id in ids]
    whole = b"".join(map(vocabulary.piece, ids))
    assert "".join(fed) + detokenizer.flush() == whole.decode("utf-8", errors="replace")


@given(text=st.text(max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_feed_gives_half_a_character(vocabulary: Vocabulary, text: str) -> None:
    detokenizer = Detokenizer(vocabulary)
    fed = [detokenizer.feed(2 + byte) for byte in text.encode()]
    assert [part for part in fed if part] == list(text)
    assert detokenizer.flush() == ""


def test_a_character_cut_off_at_the_end_is_shown_as_replacement_once(vocabulary: Vocabulary) -> None:
    detokenizer = Detokenizer(vocabulary)
    assert [detokenizer.feed(2 + byte) for byte in "🙂".encode()[:3]] == ["", "", ""]
    assert detokenizer.flush() == "\ufffd"
    assert detokenizer.flush() == ""
    assert detokenizer.feed(2 + ord("a")) == "a"


def test_control_tokens_and_unknown_ids_have_no_text(vocabulary: Vocabulary) -> None:
    detokenizer = Detokenizer(vocabulary)
    assert "".join(map(detokenizer.feed, [0, 1, vocabulary.size, vocabulary.size + 500])) == ""
