"""Digests of bytes, files and plain values. Digests of tables live in ``sampan.lake.digest``."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec

_CANONICAL = msgspec.json.Encoder(order="sorted")


def digest_bytes(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_value(value: Any) -> str:
    """SHA-256 of a plain value (numbers, texts, lists, mappings, msgspec structs) in canonical JSON."""
    return digest_bytes(_CANONICAL.encode(value))
