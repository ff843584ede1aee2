"""KEDA's objects for a test cluster, without one."""

import base64
import shutil
from pathlib import Path

import pytest
from e2e.cluster.command import capture
from e2e.keda.certificate import make_certificate
from e2e.keda.objects import METRICS, OPERATOR, Certificate, Object, names, objects

CERTIFICATE = Certificate(b"authority", b"certificate", b"key")


@pytest.fixture
def made() -> list[Object]:
    return objects("operator:1", "adapter:1", CERTIFICATE)


def pick(made: list[Object], kind: str, name: str) -> Object:
    (found,) = (one for one in made if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found


def test_each_service_reaches_a_port_that_its_program_listens_on(made: list[Object]) -> None:
    for name in (OPERATOR, METRICS):
        pod = pick(made, "Deployment", name)["spec"]["template"]
        service = pick(made, "Service", name)["spec"]
        target = service["ports"][0]["targetPort"]
        assert service["selector"].items() <= pod["metadata"]["labels"].items()
        assert any(str(target) in flag for flag in pod["spec"]["containers"][0]["args"])


def test_pods_keep_to_the_restricted_profile(made: list[Object]) -> None:
    for one in made:
        if one["kind"] == "Deployment":
            pod = one["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"]
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_api_server_trusts_the_authority_of_the_certificate(made: list[Object]) -> None:
    (registration,) = (one for one in made if one["kind"] == "APIService")

    assert base64.b64decode(registration["spec"]["caBundle"]) == CERTIFICATE.authority


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_the_certificate_is_good_for_both_services_by_its_authority(tmp_path: Path) -> None:
    certificate = make_certificate(names())
    (tmp_path / "ca.crt").write_bytes(certificate.authority)
    (tmp_path / "tls.crt").write_bytes(certificate.certificate)

    for name in (f"{OPERATOR}.keda.svc.cluster.local", f"{METRICS}.keda.svc"):
        options = ["-CAfile", str(tmp_path / "ca.crt"), "-verify_hostname", name]
        told = capture(["openssl", "verify", *options, str(tmp_path / "tls.crt")], timeout_s=20)
        assert told.endswith(": OK\n")
