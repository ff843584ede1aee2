"""The router of a deployment or of an LLMRouter."""

from collections.abc import Callable
from typing import Any

from headrace_api.names import LABEL_DEPLOYMENT, LABEL_ROLE, LABEL_ROUTER
from headrace_api.resources import LLMDeployment, LLMRouter
from headrace_operator import rbac
from headrace_operator.objects import Child, Site, router_children
from headrace_router.settings import parse_settings, read_spec

Make = Callable[..., LLMDeployment]
Children = Callable[[LLMDeployment], tuple[Child, ...]]


def router(*deployments: str, **spec: Any) -> LLMRouter:
    tiers = [{"name": f"t{number}", "deployment": name} for number, name in enumerate(deployments)]
    return LLMRouter.model_validate(
        {"metadata": {"name": "front", "namespace": "serving", "uid": "u"}, "spec": {"tiers": tiers, **spec}}
    )


def find(children: tuple[Child, ...], kind: str, name: str) -> dict[str, Any]:
    return next(one.manifest for one in children if (one.kind, one.name) == (kind, name))


def arguments(deployment: dict[str, Any]) -> dict[str, str]:
    flat = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def test_a_deployment_has_its_own_endpoint(make: Make, children: Children) -> None:
    made = children(make(router={"replicas": 2}))
    assert arguments(find(made, "Deployment", "chat-router"))["--discovery"] == "kubernetes:serving/chat"
    assert find(made, "Deployment", "chat-router")["spec"]["replicas"] == 2
    service = find(made, "Service", "chat")
    assert [(port["port"], port["targetPort"]) for port in service["spec"]["ports"]] == [(80, "http")]


def test_a_router_of_several_names_each_once(site: Site) -> None:
    made = router_children(router("small", "large", "small"), site)
    assert arguments(find(made, "Deployment", "front-router"))["--discovery"] == (
        "kubernetes:serving/large,serving/small"
    )
    assert find(made, "Service", "front")["spec"]["selector"] == {
        LABEL_ROUTER: "front",
        "app.kubernetes.io/name": "headrace-router",
    }


def test_a_deployment_and_a_router_of_one_name_have_pods_apart(make: Make, children: Children, site: Site) -> None:
    own = find(children(make(name="front")), "Deployment", "front-router")["spec"]
    other = find(router_children(router("chat"), site), "Deployment", "front-router")["spec"]
    assert not own["selector"]["matchLabels"].items() <= other["template"]["metadata"]["labels"].items()
    assert not other["selector"]["matchLabels"].items() <= own["template"]["metadata"]["labels"].items()


def test_a_router_is_no_worker(make: Make, children: Children) -> None:
    found = find(children(make()), "Deployment", "chat-router")["spec"]["template"]["metadata"]["labels"]
    assert found[LABEL_DEPLOYMENT] == "chat"
    assert LABEL_ROLE not in found


def test_the_router_takes_its_arguments(make: Make, children: Children) -> None:
    given = find(children(make()), "Deployment", "chat-router")["spec"]["template"]["spec"]["containers"][0]["args"]
    read = parse_settings(given)
    assert (read.host, read.port, read.drain_deadline_s) == ("0.0.0.0", 8080, 600.0)
    assert read.discovery == "kubernetes:serving/chat"


def test_a_router_drains_as_long_as_workers_do_and_leaves_the_service_first(make: Make, children: Children) -> None:
    pod = find(children(make(rollout={"drainTimeout": "90s"})), "Deployment", "chat-router")["spec"]["template"]["spec"]
    leave = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert "90" in pod["containers"][0]["args"]
    assert leave > 0
    assert pod["terminationGracePeriodSeconds"] > leave + 90 + 10


def test_a_router_is_replaced_before_it_goes(make: Make, children: Children) -> None:
    strategy = find(children(make()), "Deployment", "chat-router")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_a_router_may_see_pods_and_nothing_else_and_the_operator_holds_that_right(
    make: Make, children: Children
) -> None:
    made = children(make())
    role, binding = find(made, "Role", "chat-router"), find(made, "RoleBinding", "chat-router")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    granted = {rbac.Call("", "pods", verb) for verb in role["rules"][0]["verbs"]}
    assert granted <= rbac.CALLS & rbac.NAMESPACED_CALLS
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "chat-router", "namespace": "serving"}]


def test_a_deployment_without_a_router_has_none_of_its_objects(make: Make, children: Children) -> None:
    made = children(make(router={"enabled": False}))
    assert not [child.name for child in made if child.name in {"chat-router", "chat"}]


MONEY = {
    "currency": "EUR",
    "auth": {"keysSecret": "keys"},
    "budgets": [{"name": "b", "scope": "team", "of": "search", "hard": 5}],
}


def test_a_router_without_money_is_told_its_tiers_alone(site: Site) -> None:
    deployment = find(router_children(router("chat"), site), "Deployment", "front-router")
    assert not {"--keys", "--ledger"} & set(arguments(deployment))
    assert '"name":"t0","deployment":"chat"' in arguments(deployment)["--spec"]
    assert [volume["name"] for volume in deployment["spec"]["template"]["spec"]["volumes"]] == ["tmp"]


def test_model_files_of_the_cascade_reach_the_router_as_volumes_that_may_be_missing(site: Site) -> None:
    cascade = {"policy": "predict-then-check", "gate": {"configMap": {"name": "g"}}, "predictor": {"file": "/p.json"}}
    deployment = find(router_children(router("chat", cascade=cascade), site), "Deployment", "front-router")
    given = deployment["spec"]["template"]["spec"]
    read = parse_settings(given["containers"][0]["args"])
    assert (read.gate, read.predictor) == ("/etc/headrace/gate/gate.json", "/p.json")
    spec = read_spec(read)
    assert spec is not None
    assert spec.cascade is not None
    assert spec.cascade.policy == "predict-then-check"
    (volume,) = (volume for volume in given["volumes"] if "configMap" in volume)
    assert volume == {"name": "gate", "configMap": {"name": "g", "optional": True}}


def test_a_router_looks_for_the_pods_of_its_encoder_too(site: Site) -> None:
    cascade = {"policy": "predict", "predictor": {"file": "/p.json"}, "encoder": "minilm"}
    deployment = find(router_children(router("chat", cascade=cascade), site), "Deployment", "front-router")
    assert arguments(deployment)["--discovery"] == "kubernetes:serving/chat,serving/minilm"


def test_keys_and_ledger_reach_the_router_as_volumes_and_the_rest_as_its_spec(site: Site) -> None:
    made = router_children(router("chat", ledger={"postgresSecret": "db"}, **MONEY), site)
    deployment = find(made, "Deployment", "front-router")
    given = deployment["spec"]["template"]["spec"]
    read = parse_settings(given["containers"][0]["args"])
    spec = read_spec(read)
    assert spec is not None
    assert (spec.currency, spec.budgets[0].hard) == ("EUR", 5)
    assert (read.keys, read.ledger) == ("/etc/headrace/keys/keys.yaml", "postgres:/etc/headrace/ledger/dsn")
    mounts = {mount["name"]: mount["mountPath"] for mount in given["containers"][0]["volumeMounts"]}
    assert (mounts["keys"], mounts["ledger"]) == ("/etc/headrace/keys", "/etc/headrace/ledger")
    secrets = {volume["name"]: volume["secret"]["secretName"] for volume in given["volumes"] if "secret" in volume}
    assert secrets == {"keys": "keys", "ledger": "db"}
    assert deployment["spec"]["strategy"]["type"] == "RollingUpdate"


def test_a_router_with_a_ledger_on_a_volume_goes_before_the_next_one_comes(site: Site) -> None:
    made = router_children(router("chat", ledger={"claim": "money"}, **MONEY), site)
    deployment = find(made, "Deployment", "front-router")
    pod = deployment["spec"]["template"]["spec"]
    assert parse_settings(pod["containers"][0]["args"]).ledger == "sqlite:/var/lib/headrace/ledger.db"
    assert {"name": "ledger", "persistentVolumeClaim": {"claimName": "money"}} in pod["volumes"]
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


def test_keys_of_endpoints_are_mounted_secrets_that_may_be_missing(site: Site) -> None:
    far = {"url": "https://api.example.com/v1", "model": "m", "keySecret": {"name": "example", "key": "api_key"}}
    tiers = [{"name": "own", "deployment": "chat"}, {"name": "far", "endpoint": far}]
    deployment = find(router_children(router(tiers=tiers), site), "Deployment", "front-router")
    given = deployment["spec"]["template"]["spec"]
    read = parse_settings(given["containers"][0]["args"])
    assert read.discovery == "kubernetes:serving/chat"
    spec = read_spec(read)
    assert spec is not None
    assert spec.tiers[1].endpoint is not None
    assert (spec.tiers[1].endpoint.key_file, spec.tiers[1].endpoint.key_secret) == (
        "/etc/headrace/endpoints/far/api_key",
        None,
    )
    assert {"name": "endpoint-1", "secret": {"secretName": "example", "optional": True}} in given["volumes"]
    mounts = {mount["name"]: mount["mountPath"] for mount in given["containers"][0]["volumeMounts"]}
    assert mounts["endpoint-1"] == "/etc/headrace/endpoints/far"


def test_a_router_of_endpoints_alone_looks_for_no_pods(site: Site) -> None:
    tiers = [{"name": "far", "endpoint": {"url": "https://api.example.com/v1", "model": "m"}}]
    deployment = find(router_children(router(tiers=tiers), site), "Deployment", "front-router")
    assert parse_settings(deployment["spec"]["template"]["spec"]["containers"][0]["args"]).discovery == "none"
