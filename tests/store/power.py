"""What a disk may hold after the power was cut: images of a folder, made from a trace of what a program did to it.

strace writes down every write, rename and sync. At any instant what a sync covers is there for sure; of all that came
after, each write may be there, not be there, or end at a sector's border, and names may be there before what they name.
A folder's names count as synced only when the folder itself was.
"""

import bisect
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

_CALLS: Final = (
    "openat,close,write,pwrite64,writev,ftruncate,fallocate,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,"
    "fsync,fdatasync"
)
_LINE: Final = re.compile(
    r"^(?P<start>\d+\.\d+) (?P<call>\w+)\((?P<args>.*)\) += (?P<result>-?\d+).*<(?P<took>[\d.]+)>$"
)
_TEXT: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_SECTOR: Final = 512
_ROUNDING: Final = 2e-6  # seconds, of strace's times


class Op(NamedTuple):
    """One change, done at an instant. ``what`` is a file's number or, of a name, its folder; ``number`` is then that of
    the named file, else where in the file, from -1 for its end."""

    at: float
    kind: str
    what: object
    number: int = 0
    data: bytes = b""
    path: str = ""
    to: str = ""


class Sync(NamedTuple):
    start: float
    at: float
    what: object


class Trace:
    """Runs a program under strace and knows what it did below a folder. ``acks``: when it wrote a line, and which."""

    def __init__(self, code: str, folder: Path, base: Path, scratch: Path) -> None:
        self.folder, self.base = folder, base
        self.ops: list[Op] = []
        self.syncs: list[Sync] = []
        self.acks: list[tuple[float, str]] = []
        self._files: dict[str, int] = {}
        self._folders = {str(folder / path.relative_to(base)) for path in (base, *base.rglob("*")) if path.is_dir()}
        self._count = 0
        scratch.mkdir()
        command = ["strace", "-ff", "-q", "-ttt", "-T", "-xx", "-s", "16777216", "-e", f"trace={_CALLS}"]
        command += ["-e", "signal=none", "-o", str(scratch / "t"), sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for path in base.rglob("*"):
            if path.is_file():
                self._files[str(folder / path.relative_to(base))] = self._new()
        self.initial = {number: base / Path(path).relative_to(folder) for path, number in self._files.items()}
        self.names = dict(self._files)
        self._read(scratch)
        self.ops.sort(key=lambda op: op.at)

    def _new(self) -> int:
        self._count += 1
        return self._count

    def _read(self, scratch: Path) -> None:
        lines = []
        for file in scratch.iterdir():
            for line in file.read_text().splitlines():
                if (found := _LINE.match(line)) and int(found["result"]) >= 0:
                    start = float(found["start"])
                    lines.append((start + float(found["took"]), start, found))
        fds: dict[int, object] = {}
        for at, start, found in sorted(lines, key=lambda line: line[:2]):
            self._call(at, start, found["call"], found["args"], int(found["result"]), fds)

    def _call(self, at: float, start: float, call: str, args: str, result: int, fds: dict[int, object]) -> None:
        texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(args)]
        first = args.split(",")[0].strip()
        fd = int(first) if first.isdigit() else -1
        mine = [text.decode() for text in texts if text.startswith(str(self.folder).encode())]
        if call == "openat":
            fds.pop(result, None)
            if mine:
                fds[result] = self._opened(at, mine[0], args)
        elif call == "close":
            fds.pop(fd, None)
        elif call in ("write", "pwrite64", "writev"):
            if fd == 1:
                self.acks += [(at, line) for line in texts[0].decode().split()]
            elif fd in fds:
                data = b"".join(texts)[:result]
                offset = int(args.rsplit(",", 1)[1]) if call == "pwrite64" else -1
                self.ops.append(Op(at, "write", fds[fd], offset, data))
        elif call == "ftruncate" and fd in fds:
            self.ops.append(Op(at, "truncate", fds[fd], int(args.rsplit(",", 1)[1])))
        elif call in ("fsync", "fdatasync") and fd in fds:
            self.syncs.append(Sync(start, at, fds[fd]))
        elif call.startswith("rename") and len(mine) == 2:
            number = self._files[mine[1]] = self._files.pop(mine[0])
            self.ops.append(Op(at, "rename", str(Path(mine[1]).parent), number, path=mine[0], to=mine[1]))
        elif call.startswith("unlink") and mine:
            self.ops.append(Op(at, "unlink", str(Path(mine[0]).parent), path=mine[0]))
            self._files.pop(mine[0], None)
        elif call.startswith("mkdir") and mine:
            self.ops.append(Op(at, "mkdir", str(Path(mine[0]).parent), path=mine[0]))
            self._folders.add(mine[0])
        assert call != "fallocate" or fd not in fds, "what a fallocate leaves is not modelled"

    def _opened(self, at: float, path: str, flags: str) -> object:
        if path in self._folders:  # SQLite opens one like a file
            return path
        number = self._files.get(path)
        if number is None:
            if "O_CREAT" not in flags:
                return None
            number = self._files[path] = self._new()
            self.ops.append(Op(at, "create", str(Path(path).parent), number, path=path))
        elif "O_TRUNC" in flags:
            self.ops.append(Op(at, "truncate", number, 0))
        assert "O_APPEND" not in flags
        return number

    # -- images

    def images(self, count: int, seed: int) -> Iterator[tuple[str, list[Op], list[str]]]:
        """What may be left at ``count`` instants chosen by ``seed``: a name for it, the changes, the lines by then."""
        dice = random.Random(seed)
        times = [op.at for op in self.ops]
        for number in range(count):
            cut = dice.choice(times) if number % 4 else dice.choice([at for at, _ in self.acks]) + 1e-9
            how = ("none", "all", "names", "some")[number // 4 % 4]
            done = self.ops[: bisect.bisect_right(times, cut)]
            loose = [op for op in done if not self._synced(op, cut)]
            names = [op for op in loose if op.kind not in ("write", "truncate")]
            kept_names = set(map(id, names[: {"none": 0, "some": dice.randint(0, len(names))}.get(how, len(names))]))
            image = []
            for op in done:
                if not any(op is one for one in loose) or how == "all" or id(op) in kept_names:
                    image.append(op)
                elif how == "some" and op.kind in ("write", "truncate") and dice.random() < 0.5:
                    torn = op.kind == "write" and dice.random() < 0.5
                    image.append(op._replace(data=op.data[: len(op.data) // _SECTOR // 2 * _SECTOR]) if torn else op)
            yield f"{number}:{how}", image, [line for at, line in self.acks if at <= cut]

    def _synced(self, op: Op, cut: float) -> bool:
        return any(sync.what == op.what and sync.start + _ROUNDING >= op.at and sync.at <= cut for sync in self.syncs)

    def lay_out(self, image: list[Op], to: Path) -> None:
        """Make a folder of what an image holds."""
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.base, to, copy_function=lambda *_: None)
        bytes_: dict[object, bytearray] = {
            number: bytearray(path.read_bytes()) for number, path in self.initial.items()
        }
        ends: dict[object, int] = {}
        names: dict[str, object] = dict(self.names)
        for op in image:
            content = bytes_.setdefault(op.what, bytearray()) if op.kind in ("write", "truncate") else bytearray()
            if op.kind == "create":
                names[op.path] = op.number
            elif op.kind == "rename":
                names.pop(op.path, None)
                names[op.to] = op.number
            elif op.kind == "unlink":
                names.pop(op.path, None)
            elif op.kind == "mkdir":
                (to / Path(op.path).relative_to(self.folder)).mkdir(parents=True, exist_ok=True)
            elif op.kind == "truncate":
                content[:] = content[: op.number].ljust(op.number, b"\0")
            else:
                offset = ends.get(op.what, 0) if op.number < 0 else op.number
                if len(content) < offset:
                    content.extend(bytes(offset - len(content)))
                content[offset : offset + len(op.data)] = op.data
                ends[op.what] = offset + len(op.data)
        for path, number in names.items():
            where = to / Path(path).relative_to(self.folder)
            if where.parent.is_dir():
                where.write_bytes(bytes_.get(number, b""))
