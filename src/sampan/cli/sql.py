"""``sampan sql``: questions of tables and events."""

import sys
from typing import TYPE_CHECKING, Any

import click

from sampan.cli.output import as_of_option, emit, fancy, json_option, warn
from sampan.cli.output import table as show_table

if TYPE_CHECKING:
    from sampan.api.work import Work
    from sampan.app import App

_SHOWN = 100


@click.command()
@click.argument("query")
@click.option("--run", default="", metavar="RUN", help="Ask the candidate of this run, published or held back.")
@click.option("--ref", default="main", show_default=True, help="Ask the tables of a branch, or of a commit (@ID).")
@as_of_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--limit", default=0, metavar="N", help=f"Rows at most; 0: all, or {_SHOWN} at a terminal.")
@json_option
@click.pass_obj
def sql(app: "App", query: str, run: str, ref: str, as_of: str, as_csv: bool, limit: int, as_json: bool) -> None:
    """Ask a question of tables and events in SQL (DuckDB's).

    FROM names a table, or a kind of event: `sampan sql "select country, count(*) from orders group by all"`.
    With --as-of, tables are those that the branch had then, and events those that were known by then; when they
    happened is a column, `_time`. QUERY may be `-` to read it from standard input. Files and the network are out of
    reach.
    """
    if query == "-":
        query = sys.stdin.read()
    plain = as_csv or as_json
    most = limit or (_SHOWN if not plain and fancy() else 0)
    asked: Work = app.work() if app.remote else app
    found: dict[str, Any] = asked.sql(query, run, most, ref, as_of)
    names = [column["name"] for column in found["columns"]]
    if as_json:
        emit({"columns": found["columns"], "rows": found["rows"]})
    elif as_csv:
        import csv

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_cell(value) for value in row] for row in found["rows"])
    else:
        show_table(names, found["rows"], empty="No rows.", color=str(app.settings.get("color")))
    if found["more"]:
        warn(f"Only the first {most:,} rows are shown; --limit or --csv gives more.")


def _cell(value: Any) -> Any:
    """A list or a struct as JSON, which whoever reads the CSV can parse; all else as it is."""
    import msgspec

    return msgspec.json.encode(value).decode() if isinstance(value, (list, dict, tuple)) else value
