"""Arrow without pandas: pyarrow imports pandas, if it is installed, before it makes its first array of a list.

That costs half a second and 40 MB in a process that has no use for it, as the hub and a seal have none.
"""

import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from sampan.base.lacking import lacking

_spared = False


def spare_pandas() -> None:
    """Have Arrow forego pandas once it is used, in a process that has no use for it: a command's."""
    global _spared
    _spared = True


def arrow_wanted() -> None:
    """Say that Arrow is about to be used."""
    global _spared
    if _spared:
        _spared = False
        forego_pandas()


def forego_pandas() -> None:
    """Have pyarrow, once it is imported, take pandas for missing as long as this process lives; others can import it as
    ever."""
    if "pyarrow" in sys.modules:
        _miss_pandas()
    else:
        sys.meta_path.insert(0, _Awaited())


def give_back() -> None:
    """Let Arrow hand the memory that it holds in reserve back to the system: a hub answers few questions, and stays."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


class _Awaited:
    """Lets pyarrow be imported, and then look for pandas."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "pyarrow":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                load(module)
                _miss_pandas()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _miss_pandas() -> None:
    import pyarrow as pa

    with lacking(("pandas",)):
        pa.array([0])  # looks for it, once and for all
