"""Notes on disk which steps really ran, the same way for every engine."""

from pathlib import Path

LOG = Path(__file__).with_name("ran.log")


def mark(step: str) -> None:
    with LOG.open("a") as log:
        log.write(step + "\n")
