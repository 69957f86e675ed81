"""Reports of what nobody foresaw: the traceback goes to a file, one line goes to the person."""

import os
import sys
import tempfile
import traceback


def report(error: BaseException) -> str:
    """Write an exception with its traceback to a fresh file and return the file's name."""
    text = f"Python {sys.version}\n{sys.argv}\n\n" + "".join(traceback.format_exception(error))
    fd, name = tempfile.mkstemp(prefix="sampan-report-", suffix=".txt")
    with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
    return name
