"""The code of two runs as a unified diff: commits with the uncommitted changes that were recorded on top of them.

Git works it out in an index and an object store of their own, thrown away afterwards: nothing in the repository
changes. Programs that its configuration names for showing differences are not called.
"""

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from sampan.flow.code_state import SUFFIXES

_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}\Z")
_PATIENCE: Final = 20.0  # seconds for each question
LONGEST: Final = 200_000  # characters


class State(msgspec.Struct, frozen=True):
    """A commit, and the patch of what was not committed; before the first commit, a patch that adds every file."""

    commit: str
    patch: bytes = b""


class _NotAtHand(Exception):
    """What git cannot tell, in words."""


def code_diff(root: Path, before: State, after: State) -> tuple[str, str]:
    """The differences of what lies in a folder of a repository, and what stood in the way of telling them."""
    for one in (before, after):
        if one.commit and not _COMMIT.match(one.commit):
            return "", f"{one.commit[:60]!r} is no commit"
        if not one.commit and not one.patch:
            return "", "no commit was recorded"
    try:
        with tempfile.TemporaryDirectory(prefix="sampan-diff-") as folder:
            top, prefix, objects = _ask(
                root, ["rev-parse", "--show-toplevel", "--show-prefix", "--git-path", "objects"]
            )
            store = (root / objects).resolve()
            trees = [_tree((Path(top), root), Path(folder), store, one, at) for at, one in enumerate((before, after))]
            environment = _apart(Path(folder), store)
            within = [prefix or "."]
            if not (before.commit and after.commit):  # then nothing but code was recorded of one of them
                within = [f":(glob){prefix}**/*{ending}" for ending in SUFFIXES]
            plain = ["diff", "--no-ext-diff", "--no-textconv", "--no-color", *trees, "--", *within]
            text = "\n".join(_ask(Path(top), plain, environment))
    except _NotAtHand as obstacle:
        return "", str(obstacle)
    if len(text) > LONGEST:
        return text[:LONGEST], f"cut off: it has {len(text) - LONGEST:,} more characters"
    return text, ""


def _tree(places: tuple[Path, Path], folder: Path, store: Path, state: State, at: int) -> str:
    """The tree of a state. A patch's names lie below the repository's top folder, or below the workspace's."""
    environment = {**_apart(folder, store), "GIT_INDEX_FILE": str(folder / f"index-{at}")}
    try:
        _ask(places[0], ["read-tree", f"{state.commit}^{{commit}}" if state.commit else "--empty"], environment)
    except _NotAtHand:
        raise _NotAtHand(f"the workspace's repository has no commit {state.commit[:12]}") from None
    if state.patch:
        apply = ["apply", "--cached", "--whitespace=nowarn", "-"]
        try:
            below = places[1].resolve().relative_to(places[0].resolve()).as_posix()
            if not state.commit and below != ".":  # then its names lie below the workspace's folder
                apply = [*apply[:-1], f"--directory={below}", "-"]
            _ask(places[0], apply, environment, state.patch)
        except _NotAtHand as error:
            try:
                _ask(places[1], apply, environment, state.patch)
            except _NotAtHand:
                told = f"the uncommitted changes on {state.commit[:12]} do not apply: {error}"
                raise _NotAtHand(told) from None
    return _ask(places[0], ["write-tree"], environment)[0]


def _apart(folder: Path, store: Path) -> dict[str, str]:
    """What makes git write to a folder, and read the repository's objects too."""
    objects = folder / "objects"
    objects.mkdir(exist_ok=True)
    return {"GIT_OBJECT_DIRECTORY": str(objects), "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(store)}


def _ask(
    folder: Path, arguments: list[str], environment: dict[str, str] | None = None, given: bytes = b""
) -> list[str]:
    """The lines of git's answer."""
    around = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C", **(environment or {})}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=around,
            input=given,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _NotAtHand(f"git cannot be asked: {error}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise _NotAtHand(said[-1] if said else f"git ended with {done.returncode}")
    return done.stdout.decode("utf-8", "replace").split("\n")[:-1]
