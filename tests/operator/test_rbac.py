"""Rights of the operator."""

import pytest
import yaml

from headrace_operator import rbac
from headrace_operator.rbac import CALLS, NAMESPACED_CALLS, UNSEEN, Call, main


def granted(documents: list[dict[str, object]], *kinds: str) -> set[Call]:
    """Return what the roles of these kinds allow."""
    return {
        Call(group, resource, verb)
        for document in documents
        if document["kind"] in kinds
        for rule in document["rules"]  # type: ignore[attr-defined]  # YAML
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    assert main(arguments) == 0
    return list(yaml.safe_load_all(capsys.readouterr().out))


def test_the_roles_allow_the_calls_of_the_table_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    documents = printed(capsys)
    assert [document["kind"] for document in documents] == ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]
    assert granted(documents, "ClusterRole", "Role") == CALLS


def test_one_namespace_needs_no_right_beyond_it(capsys: pytest.CaptureFixture[str]) -> None:
    documents = printed(capsys, "--namespaced", "--namespace", "ops", "--watch", "team")
    assert [(one["kind"], one["metadata"]["namespace"]) for one in documents] == [  # type: ignore[index]  # YAML
        ("Role", "team"),
        ("RoleBinding", "team"),
        ("Role", "ops"),
        ("RoleBinding", "ops"),
    ]
    assert granted(documents, "Role") == NAMESPACED_CALLS
    assert {call.resource for call in CALLS - NAMESPACED_CALLS} == {"customresourcedefinitions", "nodes"}


def test_every_binding_gives_its_role_to_the_operators_account(capsys: pytest.CaptureFixture[str]) -> None:
    documents = printed(capsys, "--namespace", "ops", "--account", "me")
    names = {(one["kind"], one["metadata"]["name"]) for one in documents}  # type: ignore[index]  # YAML
    for binding in (one for one in documents if str(one["kind"]).endswith("Binding")):
        role: dict[str, str] = binding["roleRef"]  # type: ignore[assignment]  # YAML
        assert (role["kind"], role["name"]) in names
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "me", "namespace": "ops"}]


def test_no_right_is_a_wildcard() -> None:
    assert not [call for call in CALLS if "*" in (call.group, call.resource, call.verb)]


def test_secrets_can_be_made_and_never_read() -> None:
    assert {call.verb for call in CALLS if call.resource == "secrets"} == {"create"}


def test_the_resources_of_users_are_never_written_but_for_their_status() -> None:
    verbs = {call.verb for call in CALLS if call.resource in {"llmdeployments", "llmrouters"}}
    assert verbs == {"list", "watch"}


def test_each_rule_is_printed_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    lines = capsys.readouterr().out.splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("- apiGroups")]
    assert rules
    assert all(lines[number - 1].startswith("# ") for number in rules)


def test_what_the_audit_log_does_not_show_is_part_of_the_table() -> None:
    assert UNSEEN < NAMESPACED_CALLS
    assert Call("apps", "deployments", "create") in UNSEEN
    assert Call("", "secrets", "create") not in UNSEEN


def test_no_call_is_needed_for_two_reasons() -> None:
    needs = (*rbac.NEEDS, *rbac.CLUSTER_NEEDS, *rbac.LEADER_NEEDS)
    assert sum(len(need.calls) for need in needs) == len(CALLS)
