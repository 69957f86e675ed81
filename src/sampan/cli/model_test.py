"""``sampan model test``: what a version's suite demands, and whether it holds."""

from typing import TYPE_CHECKING, Any

import click

from sampan.base.errors import No
from sampan.cli.output import cell, emit, json_option, table

if TYPE_CHECKING:
    from sampan.app import App

_CASES = 3


@click.command()
@click.argument("ref")
@click.option("--branch", default="main", metavar="NAME", help="Test on the tables of this branch.", show_default=True)
@click.option("--all", "whole", is_flag=True, help="Show every failing row that was kept, not only the worst three.")
@json_option
@click.pass_context
def test(ctx: click.Context, ref: str, branch: str, whole: bool, as_json: bool) -> None:
    """Run a model's suite (suites/MODEL.toml) against one version.

    REF is MODEL@NUMBER, MODEL@ALIAS, or MODEL for the one on the branch. Its frozen files are asked, on the tables as
    they are on main now, or on --branch. What came of it is kept with the version, and counts as evidence while main
    holds these tables. Exits with 0 if every test holds, with 1 if one does not or has not enough evidence, with 2 if
    the suite cannot be read or asked.
    """
    from sampan.cli.run import me

    app: App = ctx.obj
    found = app.work().test_model(ref, me(), branch)
    if as_json:
        emit(found)
    else:
        show(found["report"], whole=whole)
    ctx.exit(0 if found["passed"] else No.exit_code)


def show(report: dict[str, Any], *, whole: bool) -> None:
    """Print what came of a suite: a table of tests, then the rows that did not hold."""
    if report["table"]:
        click.echo(f"{report['ref']} on {report['rows']:,} rows of {_table(report)}: {_seen(report)}.\n")
    outcomes = report["outcomes"]
    table(
        ["test", "kind", "result", "figure", "demand", "rows", "of them trained on"],
        [
            [
                one["name"],
                one["kind"],
                one["state"],
                _figure(one),
                one["demand"],
                one["rows"] or "",
                "" if one["seen"] is None or one["kind"] == "case" else one["seen"],
            ]
            for one in outcomes
        ],
    )
    for one in outcomes:
        if one["state"] != "passed":
            click.echo(f"\n{one['name']}: {one['state']}{': ' if one['said'] else ''}{one['said']}.")
            for case in one["cases"] if whole else one["cases"][:_CASES]:
                _show_case(case)
    broken = sum(one["state"] == "failed" for one in outcomes)
    short = sum(one["state"] == "not enough evidence" for one in outcomes)
    good = len(outcomes) - broken - short
    parts = [f"{good} of {len(outcomes)} tests hold"]
    parts += [f"{broken} failed"] * bool(broken) + [f"{short} had not enough evidence"] * bool(short)
    click.echo(f"\n{'; '.join(parts)}.")


def _table(report: dict[str, Any]) -> str:
    return str(report["table"]) if report["branch"] == "main" else f"{report['table']} on {report['branch']}"


def _seen(report: dict[str, Any]) -> str:
    """How much of it the version has seen in training, which flatters it."""
    rows, seen = report["rows"], report["seen"]
    if seen is None:
        return "how many of them it was trained on is not known"
    if not seen:
        return "it was trained on none of them"
    if seen == rows:
        return "it was trained on all of them (in-sample: figures are better than they will be on new rows)"
    return f"it was trained on {seen:,} of them (in-sample: there figures are better than they will be on new rows)"


def _figure(one: dict[str, Any]) -> str:
    figure = one["figure"]
    if isinstance(figure, float) and one["kind"] in ("perturbation", "invariance", "direction"):
        return f"{100 * figure:.6g} %"
    return cell(figure)


def _show_case(case: dict[str, Any]) -> None:
    features = ", ".join(
        f"{name} {cell(value) if value is not None else 'missing'}" for name, value in case["features"].items()
    )
    click.echo(f"  said {cell(case['prediction'])}", nl=False)
    if case["truth"] is not None:
        click.echo(f", it was {cell(case['truth'])}", nl=False)
    if case["changed"]:
        click.echo(f", and {cell(case['then'])} with {_listed(case['changed'])}", nl=False)
    click.echo(f"{'; ' if case['said'] else ''}{case['said']}\n    {features}")


def _listed(features: dict[str, Any]) -> str:
    return ", ".join(f"{name} {'missing' if value is None else cell(value)}" for name, value in features.items())
