"""What the chart renders, compared with its sources: the operator's settings and rights, the custom resources."""

import base64
import re
from typing import Any, Final

import pytest
from tests.charts.cases import EVERYTHING, MODEL, NAMESPACED, SNAPSHOTS
from tests.charts.chart import CHART, NAMESPACE, Helm, Object, names, pick, pods
from tests.charts.snapshots import FOLDER, text

from headrace_api.generate import MODELS, definition
from headrace_api.names import LABEL_NAME
from headrace_operator import rbac
from headrace_operator.objects import models
from headrace_operator.settings import OperatorSettings, parse_settings

pytestmark = pytest.mark.processes
KEEP: Final = {"helm.sh/resource-policy": "keep"}
MONITORS: Final = tuple(
    f"monitoring.coreos.com/v1/{kind}" for kind in ("ServiceMonitor", "PodMonitor", "PrometheusRule")
)


@pytest.fixture(scope="module")
def default(helm: Helm) -> list[Object]:
    return helm.template()


@pytest.fixture(scope="module")
def everything(helm: Helm) -> list[Object]:
    return helm.template(EVERYTHING)


@pytest.fixture(scope="module")
def namespaced(helm: Helm) -> list[Object]:
    return helm.template(NAMESPACED)


def told(objects: list[Object], name: str = "headrace-operator") -> OperatorSettings:
    """Return the settings that the operator reads from its arguments."""
    (container,) = pick(objects, "Deployment", name)["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python3", "-m", "headrace_operator"]
    return parse_settings(container["args"], {})


def bare(one: Object) -> Object:
    """Return an object without its labels."""
    metadata = {key: value for key, value in one["metadata"].items() if key != "labels"}
    return {**one, "metadata": metadata}


@pytest.mark.parametrize("case", SNAPSHOTS)
def test_what_is_rendered_is_what_was_agreed(helm: Helm, case: str) -> None:
    assert text(helm, case) == (FOLDER / f"{case}.yaml").read_text(), "see tests/charts/snapshots.py"


def test_the_custom_resources_are_the_generated_ones(default: list[Object]) -> None:
    found = [bare(one) for one in default if one["kind"] == "CustomResourceDefinition"]
    wanted = [definition(model) for model in MODELS]
    for one in found:
        assert one["metadata"].pop("annotations") == KEEP
    assert sorted(found, key=str) == sorted(wanted, key=str)


def test_custom_resources_can_be_left_out_or_given_up(helm: Helm) -> None:
    assert names(helm.template({"crds": {"create": False}}), "CustomResourceDefinition") == set()
    given_up = [one for one in helm.template({"crds": {"keep": False}}) if one["kind"] == "CustomResourceDefinition"]
    assert len(given_up) == 3
    assert all("annotations" not in one["metadata"] for one in given_up)


def granted(objects: list[Object]) -> list[Object]:
    """Return the operator's roles and bindings."""
    kinds = {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}
    return [
        bare(one)
        for one in objects
        if one["kind"] in kinds and one["metadata"]["labels"].get(LABEL_NAME) == "headrace-operator"
    ]


def test_the_operator_has_the_rights_of_its_own_table(default: list[Object]) -> None:
    wanted = rbac.manifests(namespaced=False, namespace=NAMESPACE, account="headrace-operator")
    assert sorted(granted(default), key=str) == sorted((bare(one) for one in wanted), key=str)


def test_in_namespaces_it_has_rights_in_each_and_none_beyond(namespaced: list[Object]) -> None:
    of_each = [
        rbac.manifests(namespaced=True, namespace=NAMESPACE, account="headrace-operator", watched=watched)
        for watched in ("team", "other")
    ]
    wanted = {str(bare(one)) for manifests in of_each for one in manifests}
    assert {str(one) for one in granted(namespaced)} == wanted
    assert {one["kind"] for one in namespaced} & {"ClusterRole", "ClusterRoleBinding"} == set()


def test_served_namespaces_alone_need_nothing_of_the_cluster_but_its_custom_resources(helm: Helm) -> None:
    objects = helm.template({**NAMESPACED, "crds": {"create": False}})
    assert {one["metadata"].get("namespace") for one in objects} == {NAMESPACE, "team", "other"}


def test_users_write_their_kinds_and_scale_pools(default: list[Object]) -> None:
    edit, view = (pick(default, "ClusterRole", f"headrace-{name}") for name in ("edit", "view"))
    writers = {resource for rule in edit["rules"] for resource in rule["resources"]}
    assert writers == {"llmdeployments", "llmrouters", "llmpools/scale"}
    assert [rule["verbs"] for rule in view["rules"]] == [["get", "list", "watch"]]
    assert edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"] == "true"
    assert "rbac.authorization.k8s.io/aggregate-to-view" not in edit["metadata"]["labels"]


def test_accounts_and_roles_can_be_somebody_elses(helm: Helm) -> None:
    objects = helm.template({"serviceAccount": {"create": False, "name": "theirs"}, "rbac": {"create": False}})
    assert names(objects, "ServiceAccount") == set()
    assert granted(objects) == []
    pod = pick(objects, "Deployment", "headrace-operator")["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "theirs"


def test_the_operator_understands_what_it_is_told(default: list[Object]) -> None:
    wanted = OperatorSettings(
        worker_image="headrace-worker:0.1.0",
        router_image="headrace-router:0.1.0",
        key_file="/etc/headrace/key/key",
        identity="fixed",
    )
    assert told(default).model_copy(update={"identity": "fixed"}) == wanted


def test_the_operator_is_told_what_the_values_say(everything: list[Object], namespaced: list[Object]) -> None:
    wanted = OperatorSettings(
        worker_image=f"registry.example.com/mirror/headrace-worker@sha256:{'b' * 64}",
        router_image="registry.example.com/mirror/headrace-router:1.2.3",
        image_pull_policy="Always",
        image_pull_secrets="registry-login,other-login",
        gpus="yes",
        key_file="/etc/headrace/key/key",
        lease_name="serving-operator",
        scaler_service="serving-operator-scaler",
        scaling_interval_s=15,
        log_level="debug",
        identity="fixed",
    )
    assert told(everything, "serving-operator").model_copy(update={"identity": "fixed"}) == wanted
    assert told(namespaced).served == ("team", "other")


def test_workers_let_the_operator_in(default: list[Object]) -> None:
    labels = pick(default, "Deployment", "headrace-operator")["spec"]["template"]["metadata"]["labels"]
    site = told(default).site(NAMESPACE)
    assert site.operator_labels.items() <= labels.items()


def test_the_port_that_the_operator_listens_on_is_probed_served_and_let_in(default: list[Object]) -> None:
    (container,) = pick(default, "Deployment", "headrace-operator")["spec"]["template"]["spec"]["containers"]
    assert {"name": "http", "containerPort": told(default).port} in container["ports"]
    assert told(default).host == "0.0.0.0"
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "http"}
    (port,) = pick(default, "Service", "headrace-operator")["spec"]["ports"]
    assert port["targetPort"] == "http"
    rule, _ = pick(default, "NetworkPolicy", "headrace-operator")["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": "http"}]


def test_keda_reaches_the_operator_that_leads(default: list[Object], everything: list[Object]) -> None:
    settings, service = told(default), pick(default, "Service", "headrace-operator-scaler")
    assert settings.scaler_service == service["metadata"]["name"]
    assert "selector" not in service["spec"]
    site = settings.site(NAMESPACE)
    ports = {one["name"]: one["port"] for one in service["spec"]["ports"]}
    assert site.scaler_address == f"headrace-operator-scaler.{NAMESPACE}.svc:{ports['grpc']}"
    assert site.scaler_url == f"http://headrace-operator-scaler.{NAMESPACE}.svc:{ports['http']}"
    (container,) = pick(default, "Deployment", "headrace-operator")["spec"]["template"]["spec"]["containers"]
    assert {one["name"]: one["containerPort"] for one in container["ports"]} == ports
    told_by = {one["name"]: one["valueFrom"]["fieldRef"]["fieldPath"] for one in container["env"]}
    environment = {name: f"value of {path}" for name, path in told_by.items()}
    pod = parse_settings([], environment)
    assert (pod.pod, pod.pod_uid, pod.pod_ip) == (
        "value of metadata.name",
        "value of metadata.uid",
        "value of status.podIP",
    )
    _, rule = pick(default, "NetworkPolicy", "headrace-operator")["spec"]["ingress"]
    assert rule == {"ports": [{"protocol": "TCP", "port": "grpc"}], "from": [{"namespaceSelector": {}}]}
    _, rule = pick(everything, "NetworkPolicy", "serving-operator")["spec"]["ingress"]
    assert rule["from"] == EVERYTHING["networkPolicy"]["scalers"]
    assert [one["port"] for one in rule["ports"]] == ["grpc", "http"]


def test_no_variable_of_a_service_reaches_a_pod(everything: list[Object]) -> None:
    """A Service `headrace-operator` would set HEADRACE_OPERATOR_PORT, which is a setting of the operator's too."""
    for pod in pods(everything).values():
        assert pod["spec"]["enableServiceLinks"] is False


def selected(selector: Object, labels: Object) -> bool:
    return bool(selector["matchLabels"].items() <= labels.items())


@pytest.mark.parametrize("case", ["default", "everything"])
def test_selectors_find_their_pods_and_no_others(request: pytest.FixtureRequest, case: str) -> None:
    objects: list[Object] = request.getfixturevalue(case)
    full = "headrace" if case == "default" else "serving"
    every = {name: pod["metadata"]["labels"] for name, pod in pods(objects).items()}
    operator = f"Deployment/{full}-operator"
    own = pick(objects, "Deployment", f"{full}-operator")["spec"]["selector"]
    policy = pick(objects, "NetworkPolicy", f"{full}-operator")["spec"]["podSelector"]
    budget = pick(objects, "PodDisruptionBudget", f"{full}-operator")["spec"]["selector"]
    service = {"matchLabels": pick(objects, "Service", f"{full}-operator")["spec"]["selector"]}
    tasks = pick(objects, "NetworkPolicy", f"{full}-tasks")["spec"]["podSelector"]
    for selector in (own, policy, budget, service):
        assert {name for name, labels in every.items() if selected(selector, labels)} == {operator}
    assert {name for name, labels in every.items() if selected(tasks, labels)} == set(every) - {operator}


def test_scrapers_and_the_test_reach_the_operator_where_scrapers_are_named(everything: list[Object]) -> None:
    rule, _ = pick(everything, "NetworkPolicy", "serving-operator")["spec"]["ingress"]
    test = pods(everything)["Pod/serving-test-operator"]["metadata"]["labels"]
    assert selected(rule["from"][0]["podSelector"], test)
    assert rule["from"][1:] == EVERYTHING["networkPolicy"]["scrapers"]


@pytest.mark.parametrize("case", ["default", "everything", "namespaced"])
def test_every_pod_keeps_to_the_restricted_profile_on_a_read_only_root(
    request: pytest.FixtureRequest, case: str
) -> None:
    for name, pod in pods(request.getfixturevalue(case)).items():
        security = pod["spec"]["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 65532), name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["spec"]["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["requests"], name


def test_every_image_comes_from_the_mirror_with_the_credentials(everything: list[Object]) -> None:
    for name, pod in pods(everything).items():
        assert pod["spec"]["imagePullSecrets"] == [{"name": "registry-login"}, {"name": "other-login"}], name
        for container in pod["spec"]["containers"]:
            assert container["image"].startswith("registry.example.com/mirror/"), name
            assert container["imagePullPolicy"] == "Always", name


def test_only_pods_that_call_the_api_server_hold_a_token(everything: list[Object]) -> None:
    holders = {name for name, pod in pods(everything).items() if pod["spec"]["automountServiceAccountToken"]}
    assert holders == {"Deployment/serving-operator", "Job/serving-resources"}


def test_one_operator_has_no_budget_that_would_hold_up_drains(namespaced: list[Object]) -> None:
    assert names(namespaced, "PodDisruptionBudget") == set()


def test_labels_of_the_user_never_replace_those_that_selectors_read(everything: list[Object]) -> None:
    labels = pods(everything)["Deployment/serving-operator"]["metadata"]["labels"]
    assert (labels["team"], labels[LABEL_NAME]) == ("platform", "headrace-operator")


def test_a_new_version_of_the_chart_alone_starts_no_operator_anew(everything: list[Object]) -> None:
    labels = pods(everything)["Deployment/serving-operator"]["metadata"]["labels"]
    assert {"helm.sh/chart", "app.kubernetes.io/version"} & set(labels) == set()


def test_the_operators_own_secret_is_made_and_mounted(default: list[Object]) -> None:
    secret = pick(default, "Secret", "headrace-operator-key")
    assert len(base64.b64decode(secret["data"]["key"])) == 64
    pod = pods(default)["Deployment/headrace-operator"]["spec"]
    (mount,) = (one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "key")
    (volume,) = (one for one in pod["volumes"] if one["name"] == "key")
    assert volume["secret"]["secretName"] == "headrace-operator-key"
    assert told(default).key_file == f"{mount['mountPath']}/{volume['secret']['items'][0]['path']}"


def test_the_lease_that_operators_write_goes_with_the_release(default: list[Object]) -> None:
    lease = pick(default, "Lease", told(default).lease_name)
    assert lease["metadata"]["namespace"] == NAMESPACE
    assert "spec" not in lease


def test_a_secret_of_the_users_is_mounted_in_its_place(everything: list[Object]) -> None:
    assert "serving-operator-key" not in names(everything, "Secret")
    volumes = pods(everything)["Deployment/serving-operator"]["spec"]["volumes"]
    assert {"our-key"} == {one["secret"]["secretName"] for one in volumes if "secret" in one}


def test_monitors_come_where_the_cluster_knows_them(helm: Helm, default: list[Object]) -> None:
    kinds = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
    assert {one["kind"] for one in default} & kinds == set()
    known = helm.template({}, *(f"--api-versions={kind}" for kind in MONITORS))
    assert kinds <= {one["kind"] for one in known}
    never = helm.template({"monitors": {"create": "never"}}, *(f"--api-versions={kind}" for kind in MONITORS))
    assert {one["kind"] for one in never} & kinds == set()


def test_monitors_look_where_the_operator_serves(helm: Helm) -> None:
    always = {"monitors": {"create": "always"}}
    everywhere, there = (helm.template({**always, "watchNamespaces": watched}) for watched in ([], ["team"]))
    assert pick(everywhere, "PodMonitor", "headrace-serving")["spec"]["namespaceSelector"] == {"any": True}
    assert pick(there, "PodMonitor", "headrace-serving")["spec"]["namespaceSelector"] == {"matchNames": ["team"]}
    service = pick(everywhere, "Service", "headrace-operator")
    monitor = pick(everywhere, "ServiceMonitor", "headrace-operator")["spec"]
    assert selected(monitor["selector"], service["metadata"]["labels"])
    assert {one["port"] for one in monitor["endpoints"]} <= {one["name"] for one in service["spec"]["ports"]}


def test_what_downloads_need_lies_in_every_namespace_of_a_deployment(everything: list[Object]) -> None:
    found = [one for one in everything if one["kind"] == "Secret"]
    assert {one["metadata"]["name"] for one in found} == {told(everything, "serving-operator").fetch_secret}
    assert {one["metadata"]["namespace"] for one in found} == {NAMESPACE, "team", "more"}
    for one in found:
        assert one["stringData"] == {
            "HTTP_PROXY": "http://p:3128",
            "HTTPS_PROXY": "http://p:3129",
            "NO_PROXY": ".example.com,10.0.0.0/8",
            "HF_ENDPOINT": "https://hub.example.com",
            "PIP_INDEX_URL": "https://packages.example.com/simple",
            "REQUESTS_CA_BUNDLE": f"{models.FETCH_FOLDER}/ca.crt",
            "ca.crt": EVERYTHING["download"]["authorities"],
        }


def test_what_downloads_need_reaches_the_served_namespaces(namespaced: list[Object], default: list[Object]) -> None:
    found = {one["metadata"]["namespace"] for one in namespaced if one["kind"] == "Secret"}
    assert found == {NAMESPACE, "team", "other"}
    assert names(default, "Secret") == {"headrace-operator-key"}


def asked(objects: list[Object]) -> dict[str, list[str]]:
    """Return what the pods of the test are told, without the script and the limits."""
    return {
        name: [word for word in pod["spec"]["containers"][0]["args"][1:] if not word.startswith("--")]
        for name, pod in pods(objects).items()
        if name.startswith("Pod/")
    }


def test_the_test_asks_the_operator_and_every_endpoint(everything: list[Object]) -> None:
    prompt = EVERYTHING["test"]["prompt"]
    assert asked(everything) == {
        "Pod/serving-test-operator": ["ready", f"http://serving-operator.{NAMESPACE}.svc/healthz"],
        "Pod/serving-test-release-chat": ["prompt", "http://chat.release.svc", "chat", prompt],
        "Pod/serving-test-team-front": ["prompt", "http://front.team.svc", "alone", prompt],
    }


def test_no_hook_and_no_right_is_there_where_no_resource_is_wanted(default: list[Object]) -> None:
    assert names(default, "Job") == set()
    assert "headrace-resources" not in names(default, "ServiceAccount") | names(default, "Role")


def test_long_names_are_cut_and_stay_apart(helm: Helm) -> None:
    long = "m" * 63
    twins = [{**MODEL, "name": f"{long[:-1]}{last}"} for last in "ab"]
    objects = helm.template({"deployments": twins, "fullnameOverride": "f" * 40})
    found = [one["metadata"]["name"] for one in objects if one["kind"] in {"ConfigMap", "Pod"}]
    assert len(found) == len(set(found)) == 5
    assert max(len(name) for name in found) <= 63


@pytest.mark.parametrize(
    ("release", "full"), [("headrace", "headrace"), ("my-headrace", "my-headrace"), ("llm", "llm-headrace")]
)
def test_names_begin_with_the_release(helm: Helm, release: str, full: str) -> None:
    text = helm("template", release, str(CHART), "--kube-version=1.34")
    assert f"\n  name: {full}-operator\n" in text


def test_kubernetes_replaces_nothing_in_the_scripts() -> None:
    for script in (CHART / "files").glob("*.py"):
        assert not re.search(r"\$\(", script.read_text())


def test_every_object_says_whose_it_is(everything: list[Object]) -> None:
    for one in everything:
        labels: dict[str, Any] = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "headrace", one["metadata"]["name"]
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
