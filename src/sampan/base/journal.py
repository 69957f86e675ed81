"""Sampan's own log: lines on standard error, as text for people or as one JSON object a line.

Modules log to ``logging.getLogger("sampan.…")`` with what they know as ``extra={"facts": {…}}``. No secret and no
query string is ever among the facts. Standard output stays for answers.
"""

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from sampan.base.errors import BadSetting

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
FORMATS: Final = ("text", "json")


def _when(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    facts = dict(getattr(record, "facts", None) or {})
    if record.exc_info and record.exc_info[1] is not None:
        facts["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
    return facts


class Lines(logging.Formatter):
    """``2026-01-31T12:00:00.000Z warning sampan.watch: message name=value``."""

    def format(self, record: logging.LogRecord) -> str:
        facts = "".join(f" {name}={_plain(value)}" for name, value in _facts(record).items())
        text = f"{_when(record)} {record.levelname.lower()} {record.name}: {_plain(record.getMessage())}{facts}"
        return text.encode("utf-8", "backslashreplace").decode()


class Objects(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the facts."""

    def format(self, record: logging.LogRecord) -> str:
        known = {"time": _when(record), "level": record.levelname.lower(), "logger": record.name}
        whole = {**known, "message": record.getMessage(), **_facts(record)}
        return msgspec.json.encode(whole, enc_hook=str).decode()


def _plain(value: Any) -> str:
    """On one line, whatever it is: a line of the log must not be forged by what somebody sent."""
    text = str(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def set_up(level: str, format: str) -> logging.Logger:
    """Send Sampan's log to standard error. Raises BadSetting for a level or format that there is not."""
    if level not in LEVELS:
        raise BadSetting("Read log_level", f"{level!r} is no level", f"Levels: {', '.join(LEVELS)}.")
    if format not in FORMATS:
        raise BadSetting("Read log_format", f"{format!r} is no format", f"Formats: {', '.join(FORMATS)}.")
    logger = logging.getLogger("sampan")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Objects() if format == "json" else Lines())
    logger.addHandler(handler)
    logger.setLevel(LEVELS[level])
    logger.propagate = False
    return logger
