"""Names of objects."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_operator.objects import names

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
anyhow = settings(deadline=None)
resources = st.from_regex(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)


@anyhow
@given(resources)
def test_every_name_fits_a_label_and_differs_from_the_others_of_its_resource(name: str) -> None:
    made = [
        names.worker_account(name),
        names.handoff_secret(name),
        names.pool(name, "prefill"),
        names.pool(name, "decode"),
        names.revision(name, "prefill", "01234567"),
        names.revision(name, "decode", "01234567"),
        names.revision(name, "decode", "89abcdef"),
        names.workers(name),
        names.models(name),
        names.fetch(name, "01234567"),
        names.router(name),
    ]
    assert all(DNS_LABEL.fullmatch(one) for one in made)
    assert len(set(made)) == len(made)


@anyhow
@given(resources, resources, st.sampled_from([names.router, names.workers, names.models, names.worker_account]))
def test_two_resources_never_get_one_name_for_the_same_thing(first: str, second: str, name: object) -> None:
    assert callable(name)
    assert (name(first) == name(second)) == (first == second)


def test_a_name_that_is_too_long_is_cut_and_told_apart_by_a_hash() -> None:
    long = "a" * 60
    assert names.router("chat") == "chat-router"
    assert len(names.router(long)) == 63
    assert names.router(long).startswith("a" * 54 + "-")
    assert names.router(long + "b") != names.router(long + "c")


def test_a_cut_leaves_no_two_dashes_before_the_hash() -> None:
    assert "--" not in names.router("a" * 53 + "-" + "b" * 9)
