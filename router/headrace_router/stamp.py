"""Whether a file is another one than at the last look."""

from pathlib import Path

Stamp = tuple[int, int, int]
_GONE: Stamp = (0, 0, 0)


def stamp_of(path: Path) -> Stamp:
    """Return what changes with a file: time, inode and size; raise OSError where it cannot be looked at.

    They are those of what a link leads to: files of mounted Secrets and ConfigMaps are links that are turned over.
    """
    found = path.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size


def stamp_or_gone(path: Path) -> Stamp:
    """Return what changes with a file; one that cannot be looked at has a stamp of its own."""
    try:
        return stamp_of(path)
    except OSError:
        return _GONE
