"""Wheels that tests make."""

import io
import zipfile


def wheel_of(files: dict[str, bytes]) -> bytes:
    """Return a wheel with these files in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()
