"""Alerts on the cascade: Prometheus' own test of rules, on series as a router writes them."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.charts.chart import Helm, pick

from headrace_api import names

PROMTOOL = shutil.which("promtool")
SERIES: dict[str, str] = {
    f'{names.CASCADE_MODEL_AWAY}{{model="gate"}}': "1x10 0x120",
    f'{names.CASCADE_FEATURE_DRIFT}{{tier="small",feature="mean_logprob"}}': "-1.5x60 0.4x60",
    f'{names.CASCADE_FEATURE_DRIFT}{{tier="small",feature="tokens"}}': "1.5x20 0x120",
    f'{names.CASCADE_ESCALATION_DRIFT}{{tier="small"}}': "0.1x10 -0.3x120",
}
"""One value a minute, as `promtool` writes them down: the drift of `tokens` passes before it is an alert."""


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
@pytest.mark.parametrize(
    ("minute", "firing"),
    [
        (3, []),
        (8, ['alertname="HeadraceGateAway", model="gate"']),
        (
            45,
            [
                'alertname="HeadraceAnswersDrift", feature="mean_logprob", tier="small"',
                'alertname="HeadraceEscalationsDrift", tier="small"',
            ],
        ),
        (100, ['alertname="HeadraceEscalationsDrift", tier="small"']),
    ],
)
def test_alerts_fire_once_something_lasts(helm: Helm, tmp_path: Path, minute: int, firing: list[str]) -> None:
    assert PROMTOOL is not None
    rules = pick(helm.template({"monitors": {"create": "always"}}), "PrometheusRule", "headrace-cascade")["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    told = [f'ALERTS{{alertstate="firing", severity="warning", {labels}}}' for labels in firing]
    wanted = {
        "expr": 'ALERTS{alertstate="firing"}',
        "eval_time": f"{minute}m",
        "exp_samples": [{"labels": labels, "value": 1} for labels in told],
    }
    series = [{"series": name, "values": values} for name, values in SERIES.items()]
    case = {"interval": "1m", "input_series": series, "promql_expr_test": [wanted]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": [case]}))
    command = [PROMTOOL, "test", "rules", "test.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
