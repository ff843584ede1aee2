"""YAML is read as kubectl reads it."""

import json
from typing import Final

import pytest
import yaml
from e2e.cluster.api import ApiCluster
from e2e.cluster.kubectl import Kubectl

from headrace_api.resources.loader import Loader

WORDS: Final = """
0 07 017 0o17 0o8 08 0x1F 0b11 1_000 +5 -0 1.0 1.5 .5 5. 1e3 1E3 1.0e+2 -1e2 0.1e-5 1:30 1:30:00.5 y N yes On OFF true
tRue ~ null Null 2026-01-31 2026-01-31T12:00:00Z = _1 1._5 . .e3 1e text
"""


def document() -> str:
    words = "".join(f"      k{number}: {word}\n" for number, word in enumerate(WORDS.split()))
    return (
        "apiVersion: serving.headrace.dev/v1alpha1\nkind: LLMDeployment\nmetadata: {name: words}\n"
        f"spec:\n  model: {{uri: 'hf://a/b'}}\n  template:\n    spec:\n      true: 1\n      1: 2\n{words}"
    )


@pytest.mark.processes
def test_unquoted_words_mean_what_they_mean_to_kubectl(api_cluster: ApiCluster) -> None:
    kubectl = Kubectl(api_cluster.kubectl, api_cluster.kubeconfig)
    stored = kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", "-o", "json", stdin=document())
    theirs = json.loads(stored)["spec"]["template"]["spec"]

    ours = yaml.load(document(), Loader)["spec"]["template"]["spec"]

    assert json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("2026-01-31", "2026-01-31"),
        ("1:30", "1:30"),
        ("1e3", 1000),
        ("1.0", 1),
        ("1.5", 1.5),
        ("0o17", 15),
        ("017", 15),
        ("y", True),
        ("off", False),
        ("{1: a, true: b}", {"1": "a", "true": "b"}),
    ],
)
def test_unquoted_words_are_read(word: str, value: object) -> None:
    read = yaml.load(word, Loader)
    assert (read, type(read)) == (value, type(value))


def test_a_tag_that_runs_code_is_refused() -> None:
    with pytest.raises(yaml.YAMLError):
        yaml.load("!!python/name:os.system x", Loader)
