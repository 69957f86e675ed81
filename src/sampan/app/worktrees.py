"""The workspace's code at a git ref, in a worktree of its own for as long as it is needed.

Each has a lock beside it, which the kernel lets go of when its process ends, however it ends. The lock is held before
it has its name, and has it before there is a folder: a folder whose lock is free is nobody's, and the next command that
writes removes it.
"""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sampan.base.errors import NotFound
from sampan.base.ids import new_id
from sampan.base.settings import Folder
from sampan.store.lock import FileLock

if TYPE_CHECKING:
    from sampan.app.workplace import Workplace

_PREFIX: Final = "code-"
_LOCK: Final = ".lock"


@contextmanager
def checked_out(app: "Workplace", ref: str, patch: Path | None = None) -> Iterator[Folder]:
    """The code at a git ref, with a patch on top of it; the working tree for "".

    Raises NotFound for an unknown ref, a patch that does not apply, or a ref at which there is no workspace.
    """
    if not ref:
        yield app.folder
        return
    root = app.folder.root
    attempted = f"Replay with the code of {ref!r}"

    def git(*arguments: str) -> str:
        try:
            done = _git(root, *arguments)
        except (OSError, ValueError) as error:
            raise NotFound(attempted, f"git cannot be asked: {error}", "Install git, or leave --code out.") from None
        if done.returncode:
            unknown = f"the workspace's repository has no commit, branch or tag {ref!r}"
            said = (done.stderr.strip().splitlines() or [unknown])[-1]
            raise NotFound(attempted, said, "`git log --oneline --all --decorate` shows what there is.")
        return done.stdout.strip()

    if ref.startswith("-"):
        raise NotFound(attempted, "that is no git ref", "Name a commit, branch or tag.")
    commit = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    prefix = git("rev-parse", "--show-prefix")
    tree = app.folder.data / "tmp" / f"{_PREFIX}{commit[:16]}-{new_id(app.clock)}"
    lock = tree.with_name(tree.name + _LOCK)
    unnamed = lock.with_name(f".{lock.name}")
    with FileLock(unnamed, attempted, "Try again."):
        unnamed.rename(lock)
        try:
            git("worktree", "add", "--detach", "--quiet", str(tree), commit)
            if patch is not None:
                _apply(patch, tree, attempted)
            code = Folder(Path(tree) / prefix, root)
            if not (code.root / "sampan.toml").is_file():
                raise NotFound(attempted, "there is no sampan.toml at that commit", "Name one at which there is.")
            yield code
        finally:
            _remove(root, tree)


@contextmanager
def patched(app: "Workplace", patch: Path, prefix: str) -> Iterator[Folder]:
    """The code of a run outside of any repository, all from its patch. Raises NotFound if that does not apply."""
    tree = app.folder.data / "tmp" / f"{_PREFIX}patched-{new_id(app.clock)}"
    lock = tree.with_name(tree.name + _LOCK)
    unnamed = lock.with_name(f".{lock.name}")
    attempted = "Put the code of a run in a folder"
    with FileLock(unnamed, attempted, "Try again."):
        unnamed.rename(lock)
        try:
            tree.mkdir()
            _apply(patch, tree, attempted)
            yield Folder(tree / prefix, app.folder.root)
        finally:
            shutil.rmtree(tree, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _apply(patch: Path, tree: Path, attempted: str) -> None:
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent)}
    command = ["git", "apply", "--whitespace=nowarn", str(patch)]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["git gave no reason"])[0]
        raise NotFound(attempted, f"its uncommitted changes do not apply: {said}", "Commit before you run.")


def sweep(folder: Folder) -> None:
    """Remove the worktrees of processes that are gone; never one that is in use."""
    home = folder.data / "tmp"
    for name in sorted({path.name.removesuffix(_LOCK) for path in home.glob(f"{_PREFIX}*")}):
        tree = home / name
        try:
            held = os.open(tree.with_name(name + _LOCK), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            _remove(folder.root, tree)  # of a version that gave them no locks
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(folder.root, tree)
        except BlockingIOError:
            continue
        finally:
            os.close(held)


def _remove(root: Path, tree: Path) -> None:
    """Folder, what git knows of it, and the lock last. ``--force`` twice: git locks one while it makes it."""
    try:
        _git(root, "worktree", "remove", "--force", "--force", str(tree))
        shutil.rmtree(tree, ignore_errors=True)
        _git(root, "worktree", "prune")
    except OSError:
        shutil.rmtree(tree, ignore_errors=True)  # no git any more
    tree.with_name(tree.name + _LOCK).unlink(missing_ok=True)


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
