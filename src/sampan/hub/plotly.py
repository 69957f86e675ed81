"""Plotly's script, from the Python package that is installed; no copy of it is kept or committed.

Only its file is used: importing ``plotly`` would cost 50 MB and a third of a second, for figures that are plain JSON
(``sampan.hub.charts``).
"""

import gzip
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from sampan.base.digests import digest_file

_SHEET: Final = re.compile(rb'getElementById\("([0-9a-f]{64})"\)')


@cache
def script() -> Path | None:
    """Where the script lies; None where the package has none."""
    spec = find_spec("plotly")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / "package_data" / "plotly.min.js"
        if path.is_file():
            return path
    return None


@cache
def name() -> str:
    """The script's name at its address: with the digest of its content, so that it may be kept for ever."""
    path = script()
    return f"plotly-{digest_file(path)[:16]}.js" if path is not None else ""


@cache
def sheets() -> tuple[str, ...]:
    """Ids of the style sheets that the script would put inside a page, which no page of ours may have. It leaves out
    those that are there already: a page has an empty element for each."""
    path = script()
    return tuple(sorted({id.decode() for id in _SHEET.findall(path.read_bytes())})) if path is not None else ()


@cache
def compressed() -> bytes:
    """The script as almost every browser wants it; kept, since it is asked for by each that comes new."""
    path = script()
    return gzip.compress(path.read_bytes(), 6, mtime=0) if path is not None else b""
