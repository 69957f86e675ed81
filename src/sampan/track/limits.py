"""What MLflow lets names and values be, so that nothing is kept here that its clients could not read back."""

import posixpath
import re
from typing import Final

from sampan.base.errors import Usage

METRICS_PER_BATCH: Final = 1000
PARAMS_PER_BATCH: Final = 100
TAGS_PER_BATCH: Final = 100
VALUES_PER_BATCH: Final = 1000
BATCH_BYTES: Final = 1_000_000
KEY: Final = 250
PARAM_VALUE: Final = 6000
TAG_VALUE: Final = 8000
EXPERIMENT_NAME: Final = 500
EXPERIMENT_TAG_VALUE: Final = 20_000
RUN_NAME: Final = TAG_VALUE  # it is kept as a tag, too
USER: Final = 256
DATASET_NAME: Final = 500
DATASET_DIGEST: Final = 36
DATASET_SOURCE: Final = 65_535
DATASET_SCHEMA: Final = 1_048_575
DATASET_PROFILE: Final = 16_777_215
DATASETS_PER_BATCH: Final = 1000
#: Characters of the records of models that old clients leave with a run.
RECORDS: Final = 1_000_000
INPUT_TAG_KEY: Final = 255
INPUT_TAG_VALUE: Final = 500
_NAME: Final = re.compile(r"[/\w.\- :]+\Z")
_SHOWN: Final = 100
#: Of numbers that 64 bits hold.
LARGEST: Final = 2**63 - 1


def shown(value: object) -> str:
    """A value as a message quotes it: not more than the beginning of a long one."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def check_key(attempted: str, key: str) -> None:
    """Raises Usage for what may not name a metric, parameter or tag."""
    if not key:
        raise Usage(attempted, "its name is empty", "A key name must be provided.")
    if len(key) > KEY:
        raise Usage(attempted, f"its name {shown(key)} has {len(key)} characters", f"It may have up to {KEY}.")
    if not _NAME.match(key):
        raise Usage(
            attempted,
            f"invalid name {shown(key)}",
            "Names may hold letters, digits, underscores, dashes, periods, spaces, colons and slashes.",
        )
    plain = posixpath.normpath(key)
    if plain != key or plain == "." or plain.startswith(("..", "/")):
        raise Usage(attempted, f"invalid name {shown(key)}", f"As a path it would be {shown(plain)}: use that.")


def check_length(attempted: str, what: str, value: str, limit: int) -> None:
    """Raises Usage for a text that is too long."""
    if len(value) > limit:
        raise Usage(attempted, f"{what} exceeds the maximum length of {limit} characters: it has {len(value)}")


def check_count(attempted: str, what: str, count: int, limit: int) -> None:
    """Raises Usage for more than a request may hold."""
    if count > limit:
        raise Usage(
            attempted, f"a request can contain at most {limit} {what}, got {count}", "Split them into several requests."
        )


def check_whole(attempted: str, what: str, number: int, lowest: int = -LARGEST - 1) -> None:
    """Raises Usage for a number that 64 bits do not hold, or that is too low."""
    if not lowest <= number <= LARGEST:
        raise Usage(attempted, f"invalid value {number} for {what}", f"It lies between {lowest} and {LARGEST}.")
