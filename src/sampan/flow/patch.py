"""Files that git does not hold, as a patch that adds them: what ``git apply`` takes, written without git."""

import base64
import re
import zlib
from collections.abc import Iterable
from hashlib import sha1
from typing import Final, NamedTuple

_PLAIN: Final = re.compile(rb"[A-Za-z0-9_./+,@=-]+")
_LINE: Final = 52  # bytes that a line of git's base 85 holds
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Added(NamedTuple):
    """A file to be added: its name below the folder that the patch is applied in, as git writes it."""

    name: str
    data: bytes
    executable: bool = False


def adding(files: Iterable[Added]) -> bytes:
    """One patch that adds files; empty for none."""
    return b"".join(_one(file) for file in files)


def _one(file: Added) -> bytes:
    ours, theirs = _quoted("a/", file.name), _quoted("b/", file.name)
    mode = b"100755" if file.executable else b"100644"
    head = b"diff --git %s %s\nnew file mode %s\nindex %s..%s\n" % (ours, theirs, mode, b"0" * 40, _blob(file.data))
    if not file.data:
        return head
    if b"\0" in file.data:
        return head + b"GIT binary patch\n" + _literal(file.data) + _literal(b"")
    whole = file.data.endswith(b"\n")
    lines = (file.data[:-1] if whole else file.data).split(b"\n")
    body = b"".join(b"+%s\n" % line for line in lines)
    last = b"" if whole else b"\\ No newline at end of file\n"
    tab = b"\t" if b" " in theirs and not theirs.startswith(b'"') else b""
    return head + b"--- /dev/null\n+++ %s%s\n@@ -0,0 +1,%d @@\n%s%s" % (theirs, tab, len(lines), body, last)


def _blob(data: bytes) -> bytes:
    """The name that git gives to these bytes."""
    return sha1(b"blob %d\0%s" % (len(data), data), usedforsecurity=False).hexdigest().encode()


def _literal(data: bytes) -> bytes:
    packed = zlib.compress(data)
    lines = [b"literal %d\n" % len(data)]
    for start in range(0, len(packed), _LINE):
        piece = packed[start : start + _LINE]
        lines.append(_LETTERS[len(piece) - 1].encode() + base64.b85encode(piece, pad=True) + b"\n")
    return b"".join(lines) + b"\n"


def _quoted(side: str, name: str) -> bytes:
    """A name as git writes it: bare if it is plain, else in quotes with octal escapes."""
    raw = (side + name).encode("utf-8", "surrogateescape")
    if _PLAIN.fullmatch(raw):
        return raw
    plain = [chr(one) if 32 <= one < 127 and one not in b'"\\' else f"\\{one:03o}" for one in raw]
    return ('"' + "".join(plain) + '"').encode()
