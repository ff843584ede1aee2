from hypothesis import given
from hypothesis import strategies as st

from headrace_worker.server.stops import StopMatcher


def whole(text: str, stops: list[str]) -> tuple[str, bool]:
    """The definition: the stop string that completes first, the longest of those; text before it."""
    for end in range(1, len(text) + 1):
        ended = [stop for stop in stops if text[:end].endswith(stop)]
        if ended:
            return text[: end - len(max(ended, key=len))], True
    return text, False


def told(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    matcher = StopMatcher(stops)
    released = ""
    for piece in pieces:
        text, hit = matcher.feed(piece)
        released += text
        if hit:
            return released, True
    return released + matcher.flush(), False


letters = st.text("abc", max_size=4)


@given(pieces=st.lists(letters, max_size=12), stops=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_text_ends_before_the_first_stop_string_however_it_is_cut(pieces: list[str], stops: list[str]) -> None:
    assert told(pieces, stops) == whole("".join(pieces), stops)


@given(pieces=st.lists(letters, max_size=12), stops=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_no_more_is_held_back_than_a_stop_string_could_need(pieces: list[str], stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    for piece in pieces:
        _, hit = matcher.feed(piece)
        if hit:
            break
        assert matcher.held < max((len(stop) for stop in stops), default=1)


def test_a_beginning_that_comes_to_nothing_is_released() -> None:
    matcher = StopMatcher(["END"])
    assert matcher.feed("the EN") == ("the ", False)
    assert matcher.feed("TRY") == ("ENTRY", False)
