"""``sampan lineage``: from an object back to the raw events."""

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from sampan.base.errors import Usage
from sampan.base.words import some
from sampan.cli.output import as_of_option, emit, json_option, table

if TYPE_CHECKING:
    from sampan.api.work import Work
    from sampan.app import App


@click.command()
@click.argument("object")
@click.option("--column", metavar="COLUMN", help="One column of the table OBJECT, or one field of the event OBJECT.")
@as_of_option
@click.option("--recompute", is_flag=True, help="Make the prediction OBJECT once more; exits with 1 if it differs.")
@json_option
@click.pass_context
def lineage(ctx: click.Context, object: str, column: str | None, as_of: str, recompute: bool, as_json: bool) -> None:
    """Walk from an object back to the raw events.

    OBJECT is a prediction's id, a version (MODEL@N), a table, a step or a run. For a prediction: rule, bundle and
    thresholds, version, run, code, the tables it was trained from, and the events they were derived from; then what
    was known of whom it is about. What was told once is not told again. With `--as-of`, a name means what it meant
    then.

    With `--column`, OBJECT is a table or a type of event: from that column back to the fields of events that it is made
    of, and forward to the columns, checks, models, endpoints and rules that it reaches. Read from the workspace as it
    stands; nothing needs to have run.

    With `--recompute`, the prediction is made once more by the bundle that made it, version and rules as they were,
    from the features and the context that were kept with it.
    """
    app: App = ctx.obj
    if recompute:
        if column or as_of:
            raise Usage("Recompute a prediction", "it is made as it was made", "Leave --column and --as-of out.")
        ctx.exit(_recompute(app, object, as_json))
    asked = {"as-of": as_of} | ({"column": column} if column else {})
    found = app.view(f"/lineage/{quote(object, safe='')}", asked)
    if as_json:
        emit(found)
        return
    import msgspec

    from sampan.flow.lineage import Origin

    for line in msgspec.convert(found, Origin).lines():
        click.echo(line.rstrip())
    if column:
        reaches(found["facts"]["reaches"])


def _recompute(app: "App", prediction: str, as_json: bool) -> int:
    """Print both answers; gives the exit code."""
    import msgspec

    asked: Work = app.work() if app.remote else app
    found = asked.recompute(prediction)
    if as_json:
        emit(found)
        return 1 if found["differs"] else 0
    then, now = found["then"], found["now"]
    click.echo(f"prediction {found['id']}, made by {found['version']} in bundle {found['bundle'][:12]}\n")
    rows = [
        [name, *(msgspec.json.encode(one[name]).decode() for one in (then, now)), _equal(name in found["differs"])]
        for name in ("prediction", "action", "rule")
    ]
    table(["", "then", "now", ""], [*rows, ["digest", then["digest"], now["digest"], _equal(bool(found["differs"]))]])
    if found["error"]:
        click.echo(f"\nNow it failed: {found['error']}")
    return 1 if found["differs"] else 0


def _equal(differs: bool) -> str:
    return "differs" if differs else "equal"


def reaches(found: list[dict[str, Any]]) -> None:
    """Print what a column reaches; ``rows`` means that it only decides which rows there are."""
    if not found:
        click.echo("\nIt reaches nothing.")
        return
    click.echo("\nWhat it reaches:")
    table(
        ["name", "kind", "its", "columns", "declared in"],
        [[one["name"], one["kind"], one["how"], some(one["columns"], 6), one["path"]] for one in found],
    )
