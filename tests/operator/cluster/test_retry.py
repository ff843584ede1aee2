import pytest

from headrace_operator.kubernetes.errors import (
    ConflictError,
    RefusedError,
    TerminatingError,
    TooManyError,
    UnauthorizedError,
    UnavailableError,
    from_answer,
)
from headrace_operator.kubernetes.retry import ATTEMPTS, backoff_s, pause_s

TERMINATING = (
    b'{"message":"unable to create new content in namespace a because it is being terminated","reason":"Forbidden",'
    b'"details":{"name":"a","causes":[{"reason":"NamespaceTerminating","message":"is being terminated"}]}}'
)


def test_a_server_at_fault_is_asked_again_after_growing_pauses_and_not_for_ever() -> None:
    pauses = [pause_s(UnavailableError("503"), attempt, 0.5) for attempt in range(1, ATTEMPTS + 1)]

    assert pauses[-1] is None
    assert [pause is not None and pause > 0 for pause in pauses[:-1]] == [True] * (ATTEMPTS - 1)


def test_a_pause_that_the_server_asks_for_is_kept_and_a_long_one_is_left_to_the_queue() -> None:
    assert pause_s(TooManyError("429", 2.0), 1, 0.0) == 2.0
    assert pause_s(TooManyError("429", 60.0), 1, 0.0) is None
    assert pause_s(TooManyError("429", None), 1, 0.0) is not None


def test_credentials_that_were_refused_are_read_anew_once() -> None:
    assert pause_s(UnauthorizedError("401"), 1, 0.5) == 0
    assert pause_s(UnauthorizedError("401"), 2, 0.5) is None


@pytest.mark.parametrize("error", [ConflictError("409"), RefusedError("422", 422)])
def test_what_would_be_refused_again_is_not_sent_again(error: ConflictError | RefusedError) -> None:
    assert pause_s(error, 1, 0.5) is None


def test_no_failures_make_no_pause() -> None:
    with pytest.raises(ValueError, match="at least one failure, not 0"):
        backoff_s(0, 1, 2, 0)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b"{}", UnauthorizedError),
        (403, TERMINATING, TerminatingError),
        (403, b'{"message":"pods is forbidden"}', RefusedError),
        (409, b"{}", ConflictError),
        (422, b'{"message":"spec is wrong"}', RefusedError),
        (429, b"{}", TooManyError),
        (500, b"<html>", UnavailableError),
        (502, b"\xff\xfe", UnavailableError),
        (504, b"", UnavailableError),
    ],
)
def test_each_answer_becomes_the_error_it_stands_for(status: int, body: bytes, kind: type[Exception]) -> None:
    assert type(from_answer("GET /x", status, body)) is kind


def test_a_pause_is_read_from_the_header_or_from_the_body() -> None:
    error = from_answer("GET /x", 429, b'{"details":{"retryAfterSeconds":7}}')
    assert isinstance(error, TooManyError)
    assert error.retry_after_s == 7
    error = from_answer("GET /x", 429, b'{"details":{"retryAfterSeconds":7}}', "3")
    assert isinstance(error, TooManyError)
    assert error.retry_after_s == 3


def test_a_refusal_is_told_in_the_servers_own_words() -> None:
    assert str(from_answer("PATCH /x", 422, b'{"message":"spec.replicas: Invalid value: -1"}')) == (
        "spec.replicas: Invalid value: -1"
    )
