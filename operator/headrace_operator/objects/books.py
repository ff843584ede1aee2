"""What a router's container gets for tiers, the cascade, keys and the ledger: arguments and volumes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from headrace_api.resources.cascade import ModelFile
from headrace_api.resources.endpoint import KeySecret
from headrace_api.resources.router import RouterSpec, Tier
from headrace_operator.objects.owner import Manifest

KEYS_FOLDER: Final = "/etc/headrace/keys"
DSN_FOLDER: Final = "/etc/headrace/ledger"
LEDGER_FOLDER: Final = "/var/lib/headrace"
MODELS_FOLDER: Final = "/etc/headrace"
ENDPOINTS_FOLDER: Final = "/etc/headrace/endpoints"


@dataclass(frozen=True, slots=True)
class Books:
    """Parts of the pod of an LLMRouter's router."""

    arguments: tuple[str, ...] = ()
    volumes: tuple[Manifest, ...] = ()
    mounts: tuple[Manifest, ...] = ()
    alone: bool = False
    """The next router may start only when the last one has gone: SQLite has one writer."""


def books(spec: RouterSpec | None) -> Books:
    """Return the parts; none for the router of a single LLMDeployment, which has neither tiers nor prices."""
    if spec is None:
        return Books()
    parts = [_keys(spec), _ledger(spec), *_endpoints(spec)]
    if spec.cascade is not None:
        parts += [_model("gate", spec.cascade.gate), _model("predictor", spec.cascade.predictor)]
    return Books(
        arguments=("--spec", _mounted(spec).books_json(), *(argument for part in parts for argument in part.arguments)),
        volumes=tuple(volume for part in parts for volume in part.volumes),
        mounts=tuple(mount for part in parts for mount in part.mounts),
        alone=any(part.alone for part in parts),
    )


def _keys(spec: RouterSpec) -> Books:
    if spec.auth is None:
        return Books()
    if spec.auth.keys_secret is None:
        assert spec.auth.keys_file is not None
        return Books(arguments=("--keys", spec.auth.keys_file))
    volume = {"name": "keys", "secret": {"secretName": spec.auth.keys_secret}}
    return Books(("--keys", f"{KEYS_FOLDER}/keys.yaml"), (volume,), (_mount("keys", KEYS_FOLDER, read_only=True),))


def _ledger(spec: RouterSpec) -> Books:
    ledger = spec.ledger
    if ledger is None:
        return Books()
    if ledger.postgres_secret is not None:
        volume: Manifest = {"name": "ledger", "secret": {"secretName": ledger.postgres_secret}}
        return Books(
            ("--ledger", f"postgres:{DSN_FOLDER}/dsn"), (volume,), (_mount("ledger", DSN_FOLDER, read_only=True),)
        )
    if ledger.claim is None:
        return Books(arguments=("--ledger", f"sqlite:{ledger.file}"), alone=True)
    volume = {"name": "ledger", "persistentVolumeClaim": {"claimName": ledger.claim}}
    place = ("--ledger", f"sqlite:{LEDGER_FOLDER}/ledger.db")
    return Books(place, (volume,), (_mount("ledger", LEDGER_FOLDER, read_only=False),), alone=True)


def _model(name: str, model: ModelFile | None) -> Books:
    """Return the parts of a model file; without its ConfigMap the router starts all the same, and says so."""
    if model is None:
        return Books()
    if model.config_map is None:
        assert model.file is not None
        return Books(arguments=(f"--{name}", model.file))
    folder = f"{MODELS_FOLDER}/{name}"
    volume: Manifest = {"name": name, "configMap": {"name": model.config_map.name, "optional": True}}
    return Books((f"--{name}", f"{folder}/{model.config_map.key}"), (volume,), (_mount(name, folder, read_only=True),))


def _endpoints(spec: RouterSpec) -> Iterable[Books]:
    """Yield the volume of each tier's API key; without the Secret the router starts, and that tier refuses."""
    for number, tier in enumerate(spec.tiers):
        secret = _secret_of(tier)
        if secret is not None:
            name = f"endpoint-{number}"  # a tier's own name may be as long as a volume's already
            volume: Manifest = {"name": name, "secret": {"secretName": secret.name, "optional": True}}
            yield Books((), (volume,), (_mount(name, _folder_of(tier), read_only=True),))


def _mounted(spec: RouterSpec) -> RouterSpec:
    """Return the spec with the files of mounted Secrets in their place, which is what a router reads."""
    return spec.model_copy(update={"tiers": tuple(_with_file(tier) for tier in spec.tiers)})


def _with_file(tier: Tier) -> Tier:
    secret = _secret_of(tier)
    if secret is None:
        return tier
    file = {"key_file": f"{_folder_of(tier)}/{secret.key}", "key_secret": None}
    assert tier.endpoint is not None
    return tier.model_copy(update={"endpoint": tier.endpoint.model_copy(update=file)})


def _secret_of(tier: Tier) -> KeySecret | None:
    return None if tier.endpoint is None else tier.endpoint.key_secret


def _folder_of(tier: Tier) -> str:
    return f"{ENDPOINTS_FOLDER}/{tier.name}"


def _mount(name: str, path: str, *, read_only: bool) -> Manifest:
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}
