"""``sampan diff``: what differs between two runs, in five sections; and why metrics do."""

from typing import TYPE_CHECKING, Any

import click

from sampan.base.errors import Usage
from sampan.cli.output import emit, json_option, table
from sampan.cli.run import me, screen, stop_in_order

if TYPE_CHECKING:
    from sampan.app import App


@click.command()
@click.argument("before", metavar="R1")
@click.argument("after", metavar="R2")
@click.option("--explain", is_flag=True, help="Say which of the differences changed the metrics, and by how much.")
@click.option("--plan", "plan_only", is_flag=True, help="With --explain: say what it would take; train nothing.")
@click.option("--model", default="", metavar="MODEL", help="With --explain: only this one.")
@json_option
@click.pass_obj
def diff(app: "App", before: str, after: str, explain: bool, plan_only: bool, model: str, as_json: bool) -> None:
    """Say what differs between two runs.

    R1 and R2 are runs of the flow (ids as `sampan runs list` prints them, or `last`) or logged runs; the beginning of
    an id is enough. Told are differences only: code (commits, steps, and line by line if git has them), environment
    (packages, Python), data (by name and digest; tables with the rows added, removed and changed), parameters, and
    metrics with what they changed by.

    With --explain, of two runs of the flow: each combination of their code, data, parameters and environment (packages,
    Python; uv makes it anew) is trained, what is cached is not trained again, and the change of each metric is shared
    out among these by their Shapley values. The shares add up to the difference. The machine is never swapped: its
    share is the rest, as is that of whatever else cannot be swapped.
    """
    if explain:
        _explain(app, {"before": before, "after": after, "model": model}, plan_only, as_json)
        return
    if plan_only or model:
        said = "--plan" if plan_only else "--model"
        raise Usage("Compare two runs", f"{said} was given without --explain", "Add --explain, or leave it out.")
    found = app.view("/diff", {"before": before, "after": after})["found"]
    if as_json:
        emit(found)
        return
    told = [
        _code(found["code"]),
        _environment(found),
        _data(found),
        *map(_values, ("parameters", "metrics"), [found] * 2),
    ]
    for name, note in found["notes"].items():
        click.echo(f"{name}: {note}", err=True)
    if not any(told):
        click.echo("Nothing differs.")


def _explain(app: "App", request: dict[str, Any], plan_only: bool, as_json: bool) -> None:
    work = app.work()
    said: set[str] = set()
    if plan_only or not as_json:
        plan = work.plan_explanation(request)
        if plan_only and as_json:
            emit(plan)
        else:
            said = _show_plan(plan)
        if plan_only or not plan["models"]:
            return
    stop_in_order()
    with screen(app, as_json) as report:
        made = work.explain(request, me(), report)
    if as_json:
        emit(made)
    else:
        _show_explanation(made, said)


def _show_plan(plan: dict[str, Any]) -> set[str]:
    """Gives what it said of factors and in notes, which need not be said again."""
    if not plan["models"]:
        click.echo(f"No metric of a model differs between run {plan['before']} and run {plan['after']}.")
        return set()
    table(
        ["factor", "differs in", "swapped"],
        [[one["name"], "; ".join(one["what"]), "yes" if one["swapped"] else "no"] for one in plan["factors"]],
        empty="They were made from the same code, data and parameters.",
    )
    said = [*_reasons(plan), *plan["notes"]]
    for line in said:
        click.echo(line)
    cost = f", {plan['cost']:.4f} {plan['currency']}" if plan["cost"] else ""
    many = f"{plan['trainings']} training{'' if plan['trainings'] == 1 else 's'}"
    click.echo(f"{plan['combinations']} combinations, {many}; about {plan['seconds']:.0f} seconds{cost}.")
    return set(said)


def _reasons(found: dict[str, Any]) -> list[str]:
    """Why factors are not swapped."""
    return [f"{one['name']}: {one['said']}." for one in found["factors"] if one["said"]]


def _show_explanation(made: dict[str, Any], said_before: set[str]) -> None:
    report = made["report"]
    kept = {one["name"] for one in report["factors"] if not one["swapped"]}
    for one in report["metrics"]:
        said = f"{one['before']:.6g} → {one['after']:.6g} ({one['difference']:+.6g})"
        click.echo(f"\n{one['model']}.{one['metric']}: {said}")
        table(
            ["factor", "share", "in the first run", "before the second"],
            [
                [
                    f"{s['factor']} (not swapped)" if kept.issuperset(s["factor"].split(", ")) else s["factor"],
                    *(_signed(s[key]) for key in ("share", "first", "second")),
                ]
                for s in one["shares"]
            ],
        )
        if not one["orders"]:
            click.echo("  It cannot be shared out: no order of the factors could be trained from end to end.")
        elif one["orders"] < one["of"]:
            click.echo(f"  Of {one['of']} orders of the factors {one['orders']} could be trained from end to end.")
    for one in report["combinations"]:
        for model, error in one["error"].items():
            click.echo(f"\n{model} with {', '.join(one['swapped']) or 'nothing'} swapped failed: {error}", err=True)
    for line in [*_reasons(report), *report["notes"]]:
        if line not in said_before:
            click.echo(f"\n{line}")
    click.echo(f"\nIt took {made['seconds']:.1f} s.")


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.6g}"


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
