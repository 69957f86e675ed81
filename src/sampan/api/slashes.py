"""Names with a slash in a path: ``/predictions/a%2Fb`` is about one prediction, called ``a/b``.

Servers decode a path before anybody routes it. Where clients choose the names, a slash that came encoded stands for
itself: it goes through routing as a character that no name has, and handlers get it back. Nowhere else, so that no
other path can say more than its segments do.
"""

from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

_PREFIXES: Final = ("/predictions/", "/lineage/", "/v1/predictions/", "/comments/", "/v1/comments/", "/v1/labels/")
_STANDS_IN: Final = "\ufdd0"  # never a character of a text, says Unicode
_ENCODED: Final = quote(_STANDS_IN).encode()
_MARK: Final = "sampan.slashes"


def keep(scope: Any) -> None:
    """Have the encoded slashes of a request lead into no other segment, where names may have some."""
    raw = scope.get("raw_path") or b""
    if b"%2" in raw and scope["path"].startswith(_PREFIXES):
        stood = raw.replace(b"%2f", _ENCODED).replace(b"%2F", _ENCODED)
        scope["path"], scope[_MARK] = unquote_to_bytes(stood).decode("utf-8", "replace"), True


def restore(scope: Any) -> None:
    """Give the handler of a routed request its names as they are."""
    if scope.get(_MARK):
        scope["path_params"] = {
            name: value.replace(_STANDS_IN, "/") if isinstance(value, str) else value
            for name, value in scope["path_params"].items()
        }


def shown(path: str) -> str:
    """A path as it was asked for, for messages."""
    return path.replace(_STANDS_IN, "%2F")
