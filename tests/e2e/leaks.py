"""Looks for secrets where none may be: files, process lists, output."""

from __future__ import annotations

import base64
from pathlib import Path

from tests.e2e.stack import SECRETS


def needles() -> list[bytes]:
    """Every secret, plain and in the Basic forms that it is sent in."""
    plain = [secret.encode() for secret in SECRETS.values()]
    basic = [f"pk-lf-test:{SECRETS['LANGFUSE_SECRET_KEY']}", f"{SECRETS['MIXPANEL_PROJECT_TOKEN']}:"]
    return [*plain, *(base64.b64encode(text.encode()) for text in basic)]


def leaks_in_files(folder: Path) -> list[str]:
    """Files below a folder that hold a secret."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and _holds_secret(path.read_bytes())]


def leaks_in_command_lines() -> list[str]:
    """Processes of this machine whose command line holds a secret."""
    return [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if _holds_secret(_read(path))]


def leaks_in_text(*texts: str) -> list[str]:
    """Lines that hold a secret."""
    return [line for text in texts for line in text.splitlines() if _holds_secret(line.encode())]


def _holds_secret(content: bytes) -> bool:
    return any(needle in content for needle in needles())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has ended meanwhile
        return b""
