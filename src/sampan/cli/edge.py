"""The outer edge of a command: what came of it becomes a message and an exit code.

0 good, 1 the answer is no, 2 wrong usage, 3 something failed, 130 stopped by Ctrl+C. An exception that nobody foresaw
is written to a file with its traceback; the terminal gets one line that names the file.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from sampan.base.errors import SampanError

_INTERRUPTED = 130


def run_command(arguments: Sequence[str], make_app: Callable[[Path | None], Any]) -> int:
    """Run one command line and return the exit code."""
    from sampan.cli.root import root

    try:
        code = root.main(args=list(arguments), prog_name="sampan", standalone_mode=False, obj=make_app)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        return _INTERRUPTED
    except SampanError as error:
        if os.environ.get("SAMPAN_DEBUG") == "1":
            raise
        click.echo(f"Error: {error}", err=True)
        return error.exit_code
    except SystemExit as end:
        # click replaces the stream by a private wrapper where the reader of our pipe has seen enough
        if type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):
            return 0
        return end.code if isinstance(end.code, int) else 3
    except Exception as error:
        if _while_stopping(error):
            click.echo("Stopped.", err=True)
            return _INTERRUPTED
        if os.environ.get("SAMPAN_DEBUG") == "1":
            raise
        known = _of_the_disk(error) if isinstance(error, OSError) else None
        click.echo(f"Error: {known}" if known else unforeseen(error), err=True)
        return 3


def _while_stopping(error: BaseException) -> bool:
    """Whether it came of being stopped: a module that was being imported then is half there, and in the way."""
    cause = error.__context__
    return cause is not None and (isinstance(cause, KeyboardInterrupt) or _while_stopping(cause))


def _of_the_disk(error: OSError) -> SampanError | None:
    from sampan.base.files import of_the_disk

    return of_the_disk(error)


def unforeseen(error: Exception) -> str:
    """Write the traceback of an unforeseen exception to a file; return the message that says so."""
    from sampan.base.reports import report

    what = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return (
        f"Error: Sampan met a case it does not know: {what}\n  The details are in {report(error)}; please report them."
    )
