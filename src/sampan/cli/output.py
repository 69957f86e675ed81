"""How commands answer: JSON for scripts, aligned text for pipes, Rich tables for people at a terminal."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
import msgspec

F = TypeVar("F", bound=Callable[..., Any])

#: The option that every listing takes.
json_option: Callable[[F], F] = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")

#: The option of what can be seen as it was.
as_of_option: Callable[[F], F] = click.option(
    "--as-of",
    default="",
    metavar="TIME",
    help="As it was then: 2026-01-31 (all of that day), 2026-01-31T12:30, or @COMMIT.",
)


def emit(value: Any, *, indent: int = 0) -> None:
    """Print a value as one line of JSON (or indented)."""
    data = msgspec.json.encode(value)
    if indent:
        data = msgspec.json.format(data, indent=indent)
    click.echo(data.decode())


def fancy(color: str = "auto", stream: Any = None) -> bool:
    """Whether to use colours and boxes: at a terminal, unless the setting ``color`` says otherwise."""
    if color in ("always", "never"):
        return color == "always"
    return bool((stream or sys.stdout).isatty())


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, color: str = "auto", empty: str = "") -> None:
    """Print rows under headings; numbers to the right. ``empty`` is said instead of an empty table."""
    rows = [list(row) for row in rows]
    if not rows:
        if empty:
            click.echo(empty)
        return
    numeric = [
        all(isinstance(row[i], int | float) or row[i] in (None, "") for row in rows) for i in range(len(columns))
    ]
    text = [[cell(value) for value in row] for row in rows]
    if fancy(color):
        from rich.console import Console
        from rich.table import Table

        grid = Table(box=None, pad_edge=False, header_style="bold")
        for name, right in zip(columns, numeric, strict=True):
            grid.add_column(name, justify="right" if right else "left", overflow="fold")
        for line in text:
            grid.add_row(*[part.replace("[", r"\[") for part in line])
        Console().print(grid)
        return
    widths = [max(len(name), *(len(line[i]) for line in text)) for i, name in enumerate(columns)]
    for line in ([*columns], *text):
        parts = [
            part.rjust(width) if right else part.ljust(width)
            for part, width, right in zip(line, widths, numeric, strict=True)
        ]
        click.echo("  ".join(parts).rstrip())


def cell(value: Any) -> str:
    """A value as one line of text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, Mapping | list | tuple):
        return msgspec.json.encode(value).decode()
    return " ".join(str(value).split())


def fields(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, one pair a line, aligned."""
    pairs = list(pairs)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        click.echo(f"{name.ljust(width)}  {cell(value)}")


def warn(text: str) -> None:
    """Say something on standard error, so that it does not mix with an answer that is piped on."""
    click.echo(text, err=True)
