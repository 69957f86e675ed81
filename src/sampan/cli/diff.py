"""``sampan diff``: what differs between two runs, in five sections."""

from typing import TYPE_CHECKING, Any

import click

from sampan.cli.output import emit, json_option, table

if TYPE_CHECKING:
    from sampan.app import App


@click.command()
@click.argument("before", metavar="R1")
@click.argument("after", metavar="R2")
@json_option
@click.pass_obj
def diff(app: "App", before: str, after: str, as_json: bool) -> None:
    """Say what differs between two runs.

    R1 and R2 are runs of the flow (ids as `sampan runs list` prints them, or `last`) or logged runs; the beginning of
    an id is enough. Told are differences only: code (commits, steps, and line by line if git has them), environment
    (packages, Python), data (by name and digest; tables with the rows added, removed and changed), parameters, and
    metrics with what they changed by.
    """
    found = app.view("/diff", {"before": before, "after": after})["found"]
    if as_json:
        emit(found)
        return
    said = [
        _code(found["code"]),
        _environment(found),
        _data(found),
        *map(_values, ("parameters", "metrics"), [found] * 2),
    ]
    for name, note in found["notes"].items():
        click.echo(f"{name}: {note}", err=True)
    if not any(said):
        click.echo("Nothing differs.")


def _code(code: dict[str, Any]) -> bool:
    if not (code["before"] != code["after"] or code["steps"] or code["files"] or code["text"]):
        return False
    click.echo("Code")
    if code["before"] or code["after"]:
        sides = zip((code["before"], code["after"]), code["uncommitted"], strict=True)
        click.echo(
            "  " + " → ".join((one[:12] or "no commit") + (" and uncommitted changes" * more) for one, more in sides)
        )
    rows = [[one["name"], _how(one)] for one in code["steps"]] + [[one["name"], _how(one)] for one in code["files"]]
    if rows:
        table(["step or file", "how"], rows)
    if code["text"]:
        click.echo(code["text"])
    if code["said"]:
        click.echo(f"  Line by line it cannot be told: {code['said']}.")
    return True


def _how(one: dict[str, Any]) -> str:
    return "new" if one["before"] is None else "gone" if one["after"] is None else "changed"


def _environment(found: dict[str, Any]) -> bool:
    return _section("Environment", ["package or place", "before", "after"], found["environment"])


def _values(name: str, found: dict[str, Any]) -> bool:
    heads = {"parameters": ["parameter", "before", "after"], "metrics": ["metric", "before", "after", "difference"]}
    return _section(name.capitalize(), heads[name], found[name])


def _section(title: str, heads: list[str], rows: list[dict[str, Any]]) -> bool:
    if rows:
        click.echo(f"\n{title}")
        keys = ["name", "before", "after", "difference"][: len(heads)]
        table(heads, [[one[key] for key in keys] for one in rows])
    return bool(rows)


def _data(found: dict[str, Any]) -> bool:
    if not found["data"]:
        return False
    click.echo("\nData")
    rows = []
    for one in found["data"]:
        counts = one["rows"] if one["rows"] and one["before"] and one["after"] else {}
        digests = [(one[side] or "–")[:13] for side in ("before", "after")]
        changed = [counts.get(name) for name in ("added", "removed", "changed")]
        rows.append([one["name"], one["kind"], one["rows_before"], one["rows_after"], *changed, " → ".join(digests)])
        if one["said"]:
            click.echo(f"  {one['name']}: {one['said']}", err=True)
    table(["name", "kind", "rows before", "after", "added", "removed", "changed", "digests"], rows)
    return True
