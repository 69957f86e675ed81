"""pyarrow without pandas, in a process of its own."""

import subprocess
import sys

_SCRIPT = """
import sys
from sampan.base.arrow import forego_pandas
{before}
import pyarrow as pa
pa.array(["a", None])
print("pandas" in sys.modules)
import pandas
print(len(pandas.Series([1])), len(pa.array([1, 2])))
"""


def _said(before: str) -> list[str]:
    command = [sys.executable, "-c", _SCRIPT.format(before=before)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_an_array_of_a_list_does_not_import_pandas_any_more() -> None:
    assert _said("") == ["True", "1", "2"]
    assert _said("forego_pandas()") == ["False", "1", "2"]  # before it is imported
    assert _said("import pyarrow; forego_pandas()") == ["False", "1", "2"]
    assert _said("forego_pandas(); assert 'pyarrow' not in sys.modules") == ["False", "1", "2"]
