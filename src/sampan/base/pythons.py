"""Processes of another Python than the running one."""

import os
from typing import Final

_LEADING: Final = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")


def variables(*, other: bool) -> dict[str, str]:
    """The variables for a process: this one's, less those that lead an ``other`` Python to the packages of this one."""
    return {name: value for name, value in os.environ.items() if not (other and name in _LEADING)}
