"""Arrow without pandas: pyarrow imports pandas, if it is installed, before it makes its first array of a list.

That costs half a second and 40 MB in a process that has no use for it, as the hub and a seal have none.
"""

import sys
from typing import Any


class _Absent:
    """Finds no pandas."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


def forego_pandas() -> None:
    """Have pyarrow take pandas for missing as long as this process lives; others can import it as ever."""
    import pyarrow as pa

    absent = _Absent()
    sys.meta_path.insert(0, absent)
    try:
        pa.array([0])  # looks for it, once and for all
    finally:
        sys.meta_path.remove(absent)
