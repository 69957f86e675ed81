"""Row: how long `sampan --help` takes, whole process."""

import sys
from collections.abc import Sequence

from bench.measure import Timed, alternate, run
from bench.place import clean_environ, sampan_program, work_folder
from bench.table import Row, at_most


def help_text(rounds: int, only: Sequence[str]) -> list[Row]:
    """The help text beside an interpreter that does nothing; each value is the median of ten."""
    del only

    def prepare(command: list[str]) -> Timed:
        folder = work_folder("help")
        environ = clean_environ(folder)
        run(command, folder, environ)  # writes the bytecode
        return lambda _: sorted(run(command, folder, environ).seconds for _ in range(10))[5]

    results = alternate(
        {
            "Sampan": lambda: prepare([sampan_program(), "--help"]),
            "python -c pass": lambda: prepare([sys.executable, "-c", "pass"]),
        },
        rounds,
    )
    return [Row("help", "`sampan --help`, whole process", "s", results, [at_most(0.12, "s")])]
