"""A command by the function that its process would call.

A process of its own costs a third of a second, nearly all of it imports.
"""

import contextlib
import io
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path


def within(folder: Path, *arguments: str, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Type a command in a folder, under these variables and no others."""
    from sampan.app import App
    from sampan.cli.edge import run_command

    apps: list[App] = []

    def make(start: Path | None) -> App:
        apps.append(App(start))
        return apps[-1]

    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(variables)
        with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run_command(arguments, make)
    finally:
        os.environ.clear()
        os.environ.update(before)
        for app in apps:
            app.close()
    said, complained = (one.buffer.getvalue().decode() for one in (out, err))  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(arguments, code, said, complained)
