"""``sampan data``: what a change of data is worth to a model, measured and remembered."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from sampan.base.clock import iso
from sampan.base.errors import Usage
from sampan.cli.output import as_of_option, emit, json_option
from sampan.cli.output import table as show_table
from sampan.cli.run import me, screen, stop_in_order

if TYPE_CHECKING:
    from sampan.app import App


@click.group()
def data() -> None:
    """What a change of data is worth to a model.

    The same code is trained on the tables of two branches, under the same seeds, and judged on the same rows. Nothing
    is registered or published.
    """


@data.command()
@click.argument("step")
@click.option(
    "--base", default="main", show_default=True, metavar="REF", help="The data as it is: a branch, or @COMMIT."
)
@click.option("--candidate", required=True, metavar="REF", help="The data as it might be: a branch, or @COMMIT.")
@click.option(
    "--seeds", type=click.IntRange(2, 30), default=5, show_default=True, metavar="N", help="How often each is trained."
)
@click.option(
    "--slice", "slices", multiple=True, metavar="COLUMN", help="Look at its values one by one; may be repeated."
)
@click.option(
    "--key", "key", multiple=True, metavar="COLUMN", help="Hold out rows together that have the same value; repeatable."
)
@click.option(
    "--judge",
    type=click.Choice(["candidate", "base"]),
    default="candidate",
    show_default=True,
    help="On whose rows both models are judged.",
)
@click.option(
    "--share",
    type=click.FloatRange(0.05, 0.5),
    default=0.25,
    show_default=True,
    metavar="SHARE",
    help="Of the rows, how many are held out.",
)
@click.option("--time", "time", default="", metavar="COLUMN", help="Hold out the later rows by it.")
@click.option("--at-random", is_flag=True, help="Hold rows out at random, also where the step or its table has a time.")
@click.option("--reason", default="", help="Why; it stays in the history.")
@json_option
@click.pass_obj
def impact(
    app: "App",
    step: str,
    base: str,
    candidate: str,
    seeds: int,
    slices: Sequence[str],
    key: Sequence[str],
    judge: str,
    share: float,
    time: str,
    at_random: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Measure what other data is worth to the model STEP.

    Each seed holds out rows of its own, trains once on BASE and once on CANDIDATE without them, and judges both on
    them. Where the step declares a time, or its table has one, each holds out what came after an instant of its own.
    Printed are the differences with 95 % intervals, over all rows and by slice. One that includes 0 shows no
    difference. What was trained is cached: asking again is quick.
    """
    request = {
        "step": step,
        "base": base,
        "candidate": candidate,
        "seeds": seeds,
        "slices": list(slices),
        "key": list(key),
        "judge": judge,
        "share": share,
        "time": "" if at_random else time or None,
        "reason": reason,
    }
    if time and at_random:
        raise Usage("Measure a change of data", "--time and --at-random exclude each other", "Give one of them.")
    stop_in_order()
    with screen(app, as_json) as report:
        made = app.work().impact(request, me(), report)
    if as_json:
        emit(made)
    elif made is None:
        click.echo(f"{base} and {candidate} hold the same of all that {step} needs: there is nothing to measure.")
    else:
        _show(app.view(f"/impact/{made['id']}"))


@data.command("list")
@as_of_option
@json_option
@click.pass_obj
def list_(app: "App", as_of: str, as_json: bool) -> None:
    """List changes of data and of models by what they were worth, the best first."""
    found = app.view("/impact", {"as-of": as_of})
    if as_json:
        emit(found)
        return
    if not found["models"]:
        click.echo("Nothing was measured yet. For instance: sampan data impact --candidate BRANCH STEP")
    for model in found["models"]:
        click.echo(f"\n{model['name']}")
        show_table(
            ["change", "kind", "metric", "better by", "95 % from", "to", "found", "measured", "by", "id"],
            [
                [
                    f"{one['before']} → {one['after']}",
                    one["kind"],
                    one["metric"],
                    one["gain"],
                    one["low"],
                    one["high"],
                    one["verdict"],
                    iso(one["created"])[:10],
                    one["actor"],
                    one["impact"],
                ]
                for one in model["changes"]
            ],
        )
        if model["unmeasured"]:
            click.echo(
                f"  {model['unmeasured']} versions share no metric with the one before that says better or worse."
            )


@data.command()
@click.argument("impact", default="last")
@as_of_option
@json_option
@click.pass_obj
def show(app: "App", impact: str, as_of: str, as_json: bool) -> None:
    """Show a measurement. IMPACT is an id, its beginning, or `last`."""
    found = app.view(f"/impact/{impact}", {"as-of": as_of})
    if as_json:
        emit(found)
        return
    _show(found)


def _show(found: dict[str, Any]) -> None:
    report, one = found["report"], found
    click.echo(f"\n{one['sentence']}\n")
    for change in report["tables"]:
        targets = f", {change['targets']:,} with another {report['target']}" if change["targets"] else ""
        click.echo(
            f"{change['name']}: {change['rows_before']:,} → {change['rows_after']:,} rows; {change['added']:,} added,"
            f" {change['removed']:,} removed, {change['changed']:,} changed{targets}."
        )
    _judgement(report["judged"], one)
    other = report["other"]
    if other["obstacle"]:
        click.echo(f"\nOn the rows of {one[other['side']]} they could not be judged: {other['obstacle']}")
    else:
        _judgement(other, one)
    for note in report["notes"]:
        click.echo(note)
    later = [f"{iso(since)[:16]} to {iso(until)[:16]}" for since, until in report["periods"]]
    if later:
        click.echo(f"Each seed learned from what came first, and was judged by {report['time']} on {'; '.join(later)}.")
    click.echo(
        f"\n{report['seeds']} seeds; {report['share']:.0%} held out, told apart by {', '.join(report['key'])};"
        f" {one['seconds']:.1f} s"
        + (f", {one['cost']:.4f} {one['currency']}" if one["cost"] else "")
        + f"; {one['id']}"
    )


def _judgement(judged: dict[str, Any], one: dict[str, Any]) -> None:
    click.echo(f"\nOn {judged['rows']:,.0f} held-out rows of {one[judged['side']]} per seed")
    lines = [["", "", judged["rows"], figure] for figure in judged["figures"]]
    lines += [[s["column"], s["value"], s["rows"], figure] for s in judged["slices"] for figure in s["figures"][:1]]
    few = {(s["column"], s["value"]) for s in judged["slices"] if s["few"]}
    show_table(
        [
            "rows with",
            "",
            "per seed",
            "metric",
            one["base"],
            one["candidate"],
            "difference",
            "95 % from",
            "to",
            "found",
        ],
        [
            [
                column or "all",
                value,
                round(rows),
                figure["metric"],
                figure["base"],
                figure["candidate"],
                figure["difference"],
                figure["low"],
                figure["high"],
                figure["verdict"] + (" (few rows)" if (column, value) in few else ""),
            ]
            for column, value, rows, figure in lines
        ],
    )
