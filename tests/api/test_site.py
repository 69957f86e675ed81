"""The application behind the hub's routes."""

import subprocess
import sys
from importlib.util import find_spec


def test_it_imports_no_library_for_classes_that_no_route_takes() -> None:
    assert find_spec("pydantic") and find_spec("attr")  # both are here, of other packages
    check = (
        "import sys; from sampan.api.site import site; site([]); print({'pydantic', 'attr', 'attrs'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.stdout == "set()\n", (done.stdout, done.stderr)


def test_a_hub_starts_without_what_only_queries_need() -> None:
    heavy = {"duckdb", "pandas", "pyarrow", "sqlglot"}
    check = f"import sys; import sampan.app.hub; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.stdout == "set()\n", (done.stdout, done.stderr)
