"""``sampan late`` and ``sampan verify incremental``: tables that are built bit by bit."""

import random
from typing import TYPE_CHECKING, Any

import click

from sampan.base.errors import No
from sampan.cli.output import emit, json_option
from sampan.cli.output import table as show_table
from sampan.cli.run import me

if TYPE_CHECKING:
    from sampan.app import App

_NONE = (
    "No table is declared incremental. A line `-- incremental: by month of COLUMN` in a table's file says that it is."
)


@click.command()
@click.option("--explain", is_flag=True, help="Name every partition, and what it is built again for.")
@json_option
@click.pass_obj
def late(app: "App", explain: bool, as_json: bool) -> None:
    """Say what events that came late will change in tables built bit by bit.

    The next run builds again the partitions that --explain lists, and no others.
    """
    found = app.work().late() if app.remote else app.late()
    if as_json:
        emit(found)
        return
    show_table(
        ["table", "built", "late", "new", "cut"],
        [[one["table"], one["built"], *_counts(one), one["how"]] for one in found],
        empty=_NONE,
    )
    rows = [
        [one["table"], part["label"], "late" if part["there"] else "new", _because(part["because"])]
        for one in found
        for part in one["partitions"]
    ]
    if explain and rows:
        click.echo()
        show_table(["table", "partition", "", "because of"], rows)
    elif rows:
        click.echo("\n  sampan late --explain")


def _counts(one: dict[str, Any]) -> tuple[Any, Any]:
    """Late and new partitions; in words where all of a table is built."""
    if one["whole"]:
        return "all", one["whole"]
    return one["late"], len(one["partitions"]) - one["late"]


def _because(because: dict[str, int | None]) -> str:
    return ", ".join(
        f"{name} changed there" if count is None else f"{count:,} {name} event{'' if count == 1 else 's'}"
        for name, count in because.items()
    )


@click.group()
def verify() -> None:
    """Whether what has been derived is what it would be if it were derived anew."""


@verify.command()
@click.argument("table", required=False, default="")
@click.option("--partitions", default=4, show_default=True, type=click.IntRange(1), help="How many to draw per table.")
@click.option("--all", "whole", is_flag=True, help="Compare all partitions.")
@click.option("--seed", type=click.IntRange(0, (1 << 53) - 1), help="Draw as an earlier verification did.")
@json_option
@click.pass_obj
def incremental(app: "App", table: str, partitions: int, whole: bool, seed: int | None, as_json: bool) -> None:
    """Hold partitions of TABLE (else of each table built bit by bit) against its whole query.

    The partitions are drawn at random. Each is held, row by row, against what the query gives over every event that the
    table was made of. Exits with 1 if one differs, or if none could be compared.
    """
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    found = app.work().prove(table, 0 if whole else partitions, seed, me())
    if as_json:
        emit(found)
    else:
        show_table(
            ["table", "partitions", "compared", ""],
            [[one["table"], one["partitions"], len(one["compared"]), _verdict(one)] for one in found],
            empty=_NONE,
        )
        for one in found:
            _show(one)
        if any(one["compared"] for one in found) and not whole:
            click.echo(f"\nDrawn with --seed {seed}.")
    if any(one["unequal"] or one["skipped"] for one in found):
        raise click.exceptions.Exit(No.exit_code)


def _verdict(one: dict[str, Any]) -> str:
    if one["skipped"]:
        return f"not compared: {one['skipped']}"
    return f"{len(one['unequal'])} differ" if one["unequal"] else "equal"


def _show(one: dict[str, Any]) -> None:
    for part in one["unequal"]:
        click.echo(
            f"\n{one['table']} {part['label']}: {part['rows']:,} rows; the whole query gives {part['rows_whole']:,}"
        )
        for title, rows in (("only in the table", part["only_here"]), ("only by the query", part["only_whole"])):
            for row in rows:
                click.echo(f"  {title}: {row}")
    if one["unequal"]:
        click.echo(
            "\n  Its `-- incremental:` line promises more than the query keeps: look back farther, or leave it out."
        )
