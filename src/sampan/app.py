"""Where everything is wired together, and the entry points ``sampan`` and ``sampan.table``.

``App`` is one workspace as a process sees it. Its parts are made on first use, so that a command pays only for
what it touches. Nothing here knows how a part works; nothing below knows that the others exist.
"""

import sys
from pathlib import Path


def main() -> None:
    """The ``sampan`` command. Ends the process with a documented exit code, never with a bare traceback."""
    from sampan.cli.edge import run_command

    sys.exit(run_command(sys.argv[1:], App))


class App:
    def __init__(self, start: Path | None = None) -> None:
        self.start = start
