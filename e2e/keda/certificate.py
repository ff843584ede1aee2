"""A certificate for KEDA's two programs, made by openssl for one cluster."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from e2e.cluster.command import capture
from e2e.keda.objects import Certificate

if TYPE_CHECKING:
    from collections.abc import Sequence

_DAYS: Final = "30"
_TIMEOUT_S: Final = 30.0
_CURVE: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make_certificate(names: Sequence[str]) -> Certificate:
    """Return a fresh certificate for these names, of servers and of clients, with an authority of its own."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        _openssl(folder, "req", "-x509", *_CURVE, "-subj", "/CN=KEDA for a test", *_out("ca"), "-days", _DAYS)
        listed = ",".join(f"DNS:{each}" for each in names)
        (folder / "extensions").write_text(f"subjectAltName={listed}\nextendedKeyUsage=serverAuth,clientAuth\n")
        _openssl(folder, "req", *_CURVE, "-subj", "/CN=KEDA", "-keyout", "tls.key", "-out", "tls.csr")
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions", "-days", _DAYS)
        _openssl(folder, "x509", "-req", "-in", "tls.csr", *signed, "-out", "tls.crt")
        read = [(folder / file).read_bytes() for file in ("ca.crt", "tls.crt", "tls.key")]
    return Certificate(*read)


def _out(stem: str) -> tuple[str, ...]:
    return "-keyout", f"{stem}.key", "-out", f"{stem}.crt"


def _openssl(folder: Path, *arguments: str) -> None:
    capture(["openssl", *arguments], timeout_s=_TIMEOUT_S, folder=folder)
