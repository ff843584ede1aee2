"""The way to a cluster: a pod's service account or a kubeconfig, and what is said where there is none."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from headrace_router.discovery import access
from headrace_router.discovery.access import find_access, from_kubeconfig, in_cluster
from headrace_router.errors import SettingsError

IN_POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "6443"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    found = folder / "a.crt", folder / "a.key"
    subject = [
        "-x509",
        "-subj",
        "/CN=a",
        "-days",
        "1",
        "-nodes",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ]
    command = ["openssl", "req", *subject, "-out", str(found[0]), "-keyout", str(found[1])]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return found


@pytest.fixture
def account(tmp_path: Path, certificate: tuple[Path, Path]) -> Path:
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "ca.crt").write_bytes(certificate[0].read_bytes())
    return tmp_path


def kubeconfig(folder: Path, cluster: dict[str, Any], user: dict[str, Any]) -> Path:
    path = folder / "kubeconfig"
    content = {
        "current-context": "here",
        "contexts": [
            {"name": "there", "context": {"cluster": "x", "user": "x"}},
            {"name": "here", "context": {"cluster": "c", "user": "u"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": "https://h:1/", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(json.dumps(content))
    return path


def test_a_pods_token_is_read_anew_each_time(account: Path) -> None:
    found = in_cluster(IN_POD, account)
    assert found.server == "https://10.96.0.1:6443"
    assert found.headers() == {"authorization": "Bearer first"}
    (account / "token").write_text("second\n")
    assert found.headers() == {"authorization": "Bearer second"}
    assert found.context().get_ca_certs()
    assert in_cluster({"KUBERNETES_SERVICE_HOST": "fd00::1"}, account).server == "https://[fd00::1]:443"


def test_a_pod_without_a_token_is_told_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"token, which is not there; .*automountServiceAccountToken"):
        in_cluster(IN_POD, tmp_path)


def test_a_kubeconfig_has_what_it_needs_inside_or_in_files_beside_it(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    public, private = certificate
    inside = [base64.b64encode(path.read_bytes()).decode() for path in certificate]
    data = from_kubeconfig(
        kubeconfig(
            tmp_path,
            {"certificate-authority-data": inside[0]},
            {"client-certificate-data": inside[0], "client-key-data": inside[1]},
        )
    )
    assert data.server == "https://h:1"
    assert data.context().get_ca_certs()
    assert data.headers() == {}
    (tmp_path / "token").write_text("t")
    files = from_kubeconfig(
        kubeconfig(
            tmp_path,
            {"certificate-authority": str(public)},
            {"client-certificate": str(public), "client-key": str(private), "tokenFile": "token"},
        )
    )
    assert files.context().get_ca_certs()
    assert files.headers() == {"authorization": "Bearer t"}
    assert "Bearer" not in repr(files)
    assert inside[1] not in repr(data)


def test_a_kubeconfig_may_trust_any_server(tmp_path: Path) -> None:
    found = from_kubeconfig(kubeconfig(tmp_path, {"insecure-skip-tls-verify": True}, {"token": "t"}))
    assert not found.context().check_hostname


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "no usable kubeconfig"),
        ("[]", "no usable kubeconfig"),
        ("{}", "no usable kubeconfig: KeyError 'current-context'"),
        ('{"current-context": "a", "contexts": []}', "no usable kubeconfig"),
    ],
)
def test_what_is_no_kubeconfig_is_a_sentence(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(SettingsError, match=told):
        from_kubeconfig(path)


def test_a_kubeconfig_that_runs_a_program_for_its_credentials_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'exec', which the router does not run; use a token"):
        from_kubeconfig(kubeconfig(tmp_path, {}, {"exec": {"command": "login"}}))


def test_the_flag_wins_over_the_pods_account_and_that_over_the_variable(
    tmp_path: Path, account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "in_cluster", lambda environ: in_cluster(environ, account))
    path = kubeconfig(tmp_path, {}, {"token": "t"})
    assert find_access(IN_POD, str(path)).server == "https://h:1"
    assert find_access({"KUBECONFIG": f"{path}:/other"}, None).server == "https://h:1"
    assert find_access(IN_POD | {"KUBECONFIG": str(path)}, None).server == "https://10.96.0.1:6443"
    with pytest.raises(SettingsError, match="run in a pod, set KUBECONFIG, or give --kubeconfig"):
        find_access({}, None)
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        find_access({}, str(tmp_path / "none"))
