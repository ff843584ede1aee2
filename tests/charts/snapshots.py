"""What the chart renders, kept as files: `python -m tests.charts.snapshots` writes them anew."""

import tempfile
from pathlib import Path
from typing import Any, Final

import yaml
from tests.charts.cases import SNAPSHOTS
from tests.charts.chart import CHART, Helm, Object

FOLDER: Final = Path(__file__).with_name("snapshots")
_SCRIPTS: Final = ("apply.py", "ask.py")


def text(helm: Helm, case: str) -> str:
    """Return the objects of a case as text, ordered by kind and name.

    Left out is what other tests compare with its source: custom resources, rules of the operator, scripts.
    """
    objects = [one for one in helm.template(SNAPSHOTS[case]) if one["kind"] != "CustomResourceDefinition"]
    objects.sort(key=lambda one: (one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]))
    return "---\n".join(
        yaml.safe_dump(_without(one), sort_keys=False, width=120, allow_unicode=True) for one in objects
    )


def _without(one: Object) -> Object:
    scripts = {(CHART / "files" / name).read_text(): f"({name})" for name in _SCRIPTS}
    shortened: Object = _replaced(one, scripts)
    if one["kind"] in {"Role", "ClusterRole"} and "app.kubernetes.io/name" in one["metadata"]["labels"]:
        shortened["rules"] = "(rules.yaml)"
    return shortened


def _replaced(value: Any, texts: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(inner, texts) for name, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, texts) for inner in value]
    return texts.get(value, value) if isinstance(value, str) else value


def main() -> None:
    """Write every snapshot."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for case in SNAPSHOTS:
            (FOLDER / f"{case}.yaml").write_text(text(Helm(Path(folder)), case))


if __name__ == "__main__":
    main()
