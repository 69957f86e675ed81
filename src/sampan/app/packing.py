"""What an exported bundle needs: found by opening it and asking it once. ``python -m sampan.app.packing FOLDER``

Runs in the Python that the bundle is served in, and says which packages that took, with all that these require.
"""

import os
import sys
from pathlib import Path

import msgspec

from sampan.base.errors import Damaged, SampanError
from sampan.flow.packages import Packages
from sampan.models.zeros import SIZES, zeros
from sampan.serve.exported import open_exported

_SERVER = ("uvicorn", "httptools", "uvloop")


class Needs(msgspec.Struct, frozen=True):
    """Python and packages; ``sources``: of those that come from no index; or the error."""

    python: str = ""
    packages: dict[str, str] = {}
    sources: dict[str, str] = {}
    error: dict[str, str] | None = None


def needs(folder: Path) -> Needs:
    """Open a bundle, ask it a record, and see what that has imported. Raises what is wrong with it."""
    import platform

    answerer = open_exported(folder)
    signature = answerer.signature
    for size in SIZES if signature.heavy else (1,):
        record = zeros(signature, size)
        try:
            outputs = answerer.predict([record])
        except SampanError:
            if not signature.heavy or size == SIZES[-1]:
                raise
        else:
            answerer.judge([record], outputs)  # a rule that wants more says so in its verdict
            break
    loaded = {name.partition(".")[0] for name in sys.modules}
    packages = Packages(None)
    found = packages.versions(sorted({*loaded, *_SERVER} - {"sampan"}))
    known = {name: one for name, one in found.items() if one != "not installed" and name.lower() != "sampan"}
    return Needs(platform.python_version(), known, {n: s for n, s in packages.sources().items() if n in known})


def main() -> None:
    said = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the user's rules print must not mix with the answer
    try:
        found = needs(Path(sys.argv[1]))
    except SampanError as error:
        found = Needs(error=error.body()["error"])
    except Exception as error:  # noqa: BLE001 - the edge of this process; the caller turns it into a message
        found = Needs(error=Damaged("Open the bundle", f"{type(error).__name__}: {error}").body()["error"])
    with said:
        said.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
