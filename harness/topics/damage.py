"""See at a glance that a data file cannot be what its name says."""

from __future__ import annotations

from pathlib import Path


def damage(path: Path) -> str | None:
    """Return what is wrong with a file, such as ``is empty``; None if nothing is seen.

    Looks at its first bytes only: for a missing or empty file, a folder, and a web page that a
    download left in the place of the data.
    """
    if not path.exists():
        return "does not exist"
    if path.is_dir():
        return "is a folder"
    head = first_bytes(path, 512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "is empty"
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "is a web page, not data: its download went wrong"
    return None


def first_bytes(path: Path, count: int) -> bytes:
    """Read at most ``count`` bytes from the start of a file."""
    with open(path, "rb") as file:
        return file.read(count)
