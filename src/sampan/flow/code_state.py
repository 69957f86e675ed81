"""Which code a run ran: the commit that is checked out, and as a patch all that differs from it.

The patch holds what is changed, and files that git does not hold but a flow is made of: code, and what steps declare.
Outside of a repository, or before its first commit, it holds all of them, and adds them to an empty folder. Git works
in processes of its own while the rest of the manifest is put together, and has answered before the first step.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sampan.base.digests import digest_bytes
from sampan.base.errors import BadWorkspace
from sampan.flow.patch import Added, adding
from sampan.store.blobs import Blobs

if TYPE_CHECKING:
    import subprocess

LIMIT: Final = 16 << 20
"""Bytes of a patch at most."""
_ATTEMPTED: Final = "Record the code of this run"
SUFFIXES: Final = (".py", ".sql", ".toml", ".lock", ".yml", ".yaml", ".cfg", ".ini", ".md")
_SKIPPED: Final = {"__pycache__", "node_modules", "dist", "build"}
_DIFF: Final = (
    *("-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false", "-c", "diff.relative=false", "diff", "HEAD"),
    *("--binary", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color", "--", "."),
)
_LIST: Final = ("ls-files", "-c", "-o", "--exclude-standard", "-x", ".sampan", "-t", "-z")


class CodeState:
    """The code of one run, asked of git."""

    def __init__(self, root: Path, commit: str | None) -> None:
        """``commit``: what git's own files say is checked out."""
        self._root, self.commit = root, commit
        self._asked: list[subprocess.Popen[bytes]] = []
        self._repository = repository(root)

    def ask(self) -> None:
        """Start git. Raises BadWorkspace for a repository that it cannot be asked about."""
        if self._repository is None:
            return
        if self.commit is None:  # before the first commit, or a way of keeping refs that only git reads
            head = self._start("rev-parse", "--verify", "--quiet", "HEAD")
            said, complaint = head.communicate()
            if head.returncode > 1 or complaint:
                raise _unknown(self._root, complaint)
            self.commit = said.decode().strip() or None
        if self.commit is not None:
            self._asked = [self._start(*_DIFF), self._start(*_LIST)]

    def collect(self, folder: Path, needed: Iterable[str]) -> dict[str, Any]:
        """``patch``: blob of what differs from the commit, or None; ``untracked``: digests of the files in it that git
        does not hold; ``prefix``: where the workspace lies in its repository. ``needed``: files below the root that the
        flow reads, whatever they are called. Raises BadWorkspace."""
        prefix, changed = "", b""
        if self.commit is None:
            extra = sorted({*needed, *_code(self._root)})
        else:
            changed, listed = self._answers()
            held, others = _read(listed)
            extra = sorted({*(one for one in needed if one not in held), *filter(_is_code, others)})
            assert self._repository is not None
            below = self._root.resolve().relative_to(self._repository.resolve()).as_posix()
            prefix = "" if below == "." else f"{below}/"
        files = list(self._files(extra, len(changed)))
        patch = changed + adding(file._replace(name=prefix + file.name) for file in files)
        if len(patch) > LIMIT:
            raise _too_large(len(patch), files, len(changed))
        return {
            "patch": _kept(Blobs(folder), patch) if patch else None,
            "untracked": {_text(file.name): digest_bytes(file.data) for file in files},
            "prefix": prefix,
        }

    def stop(self) -> None:
        """End what is still asked, for a run that ends before its time."""
        for asked in self._asked:
            if asked.poll() is None:
                asked.kill()
            asked.communicate()
        self._asked = []

    # -- within

    def _start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        import subprocess

        environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
        pipe = subprocess.PIPE
        try:
            return subprocess.Popen(
                ["git", *arguments],
                cwd=self._root,
                stdin=subprocess.DEVNULL,
                stdout=pipe,
                stderr=pipe,
                env=environment,
            )
        except OSError as error:
            raise BadWorkspace(
                _ATTEMPTED,
                f"{self._repository} is a git repository, and git cannot be started ({error.strerror})",
                "Install git: without it nobody can tell which uncommitted changes a run was made from.",
            ) from None

    def _answers(self) -> tuple[bytes, bytes]:
        asked, self._asked = self._asked, []
        answers = [one.communicate() for one in asked]
        for one, (_, complaint) in zip(asked, answers, strict=True):
            if one.returncode:
                raise _unknown(self._root, complaint)
        return answers[0][0], answers[1][0]

    def _files(self, names: Iterable[str], size: int) -> Iterator[Added]:
        found: list[Added] = []
        for name in names:
            path = self._root / name
            try:
                if path.is_dir():
                    continue
                if (size := size + path.stat().st_size) > LIMIT:
                    raise _too_large(size, [*found, Added(name, b"\0" * path.stat().st_size)], 0)
                one = Added(name, path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR))
            except FileNotFoundError:
                continue  # whoever needs it will say so
            except OSError as error:
                raise BadWorkspace(
                    _ATTEMPTED,
                    f"{name} is not in git, and cannot be read ({error.strerror})",
                    "Let it be read, take it away, or commit it.",
                ) from None
            found.append(one)
            yield one


def _kept(blobs: Blobs, patch: bytes) -> str:
    """The patch's digest. Most runs find theirs there, put by the run before; no clean-up goes on beside a run."""
    digest = digest_bytes(patch)
    return digest if blobs.has(digest) else blobs.put(patch)


def repository(root: Path) -> Path | None:
    """The folder whose repository holds a workspace; None outside of one."""
    return next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), None)


def below(root: Path, names: Iterable[str]) -> Iterator[str]:
    """The files that declared names stand for, as far as they lie in the workspace; a folder is all its files."""
    for name in names:
        inside = os.path.relpath(root / name, root)
        if inside.startswith(".."):
            continue
        if (root / inside).is_dir():
            yield from (file.relative_to(root).as_posix() for file in (root / inside).rglob("*"))
        else:
            yield inside


def _read(listed: bytes) -> tuple[set[str], list[str]]:
    """Names that git holds, and those that it does not and is not told to ignore."""
    held, others = set(), []
    for line in listed.decode("utf-8", "surrogateescape").split("\0"):
        tag, _, name = line.partition(" ")
        if tag == "?":
            others.append(name)
        elif name:
            held.add(name)
    return held, others


def _is_code(name: str) -> bool:
    """Hidden files and folders belong to tools, and may hold what nobody else should read."""
    return name.endswith(SUFFIXES) and not any(part.startswith(".") for part in name.split("/"))


def _code(root: Path, inside: str = "") -> Iterator[str]:
    with os.scandir(root / inside) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = f"{inside}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _SKIPPED and not Path(entry.path, "pyvenv.cfg").exists():
                    yield from _code(root, f"{name}/")
            elif _is_code(name):
                yield name


def _unknown(root: Path, complaint: bytes) -> BadWorkspace:
    said = complaint.decode("utf-8", "replace").strip().splitlines() or ["it gave no reason"]
    return BadWorkspace(
        _ATTEMPTED,
        f"git cannot tell what {root} differs in from its commit: {said[0].removeprefix('fatal: ')}",
        "`git status` in that folder says more. Mend the repository; no run starts whose code nobody could tell.",
    )


def _too_large(size: int, files: list[Added], changed: int) -> BadWorkspace:
    largest = max(files, key=lambda one: len(one.data), default=None)
    mostly = largest.name if largest is not None and len(largest.data) >= changed else "changes of files in git"
    return BadWorkspace(
        _ATTEMPTED,
        f"what is not committed comes to {size / 1e6:,.0f} MB, most of it {_text(mostly)};"
        f" at most {LIMIT / 1e6:,.0f} MB are kept with a run",
        "Commit it; or, if no step needs it, name it in .gitignore or move it out of the workspace.",
    )


def _text(name: str) -> str:
    return name.encode("utf-8", "replace").decode()
