"""``sampan replay``: see what would have been different, had this code been in force since the first event."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from sampan.base.clock import iso, past, stamp, to_micros
from sampan.base.errors import Usage
from sampan.cli.branch import columns, samples
from sampan.cli.output import as_of_option, emit, json_option
from sampan.cli.output import table as show_table
from sampan.cli.run import finish, me, parse_sets, screen, stop_in_order

if TYPE_CHECKING:
    from sampan.app import App

_GENESIS = "genesis"
_reason = click.option("--reason", default="", help="Why; it stays in the history.")


@click.group(invoke_without_command=True)
@click.option(
    "--from", "since", default=_GENESIS, show_default=True, metavar="TIME", help="Compare decisions from then on."
)
@click.option("--until", default="", metavar="TIME", help="Replay the log as it was then; all of it otherwise.")
@click.option("--code", default="", metavar="REF", help="A commit, branch or tag of git; the working tree otherwise.")
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="NAME.PARAM=VALUE",
    help="Overrule a parameter of a step, or a threshold of a rule.",
)
@click.option("--plan", "plan_only", is_flag=True, help="Say what it would do and take; do nothing.")
@_reason
@json_option
@click.pass_context
def replay(
    ctx: click.Context,
    since: str,
    until: str,
    code: str,
    sets: Sequence[str],
    plan_only: bool,
    reason: str,
    as_json: bool,
) -> None:
    """See what would have been different with the workspace as it is now.

    Every event since the first is replayed. Tables, models and figures are derived on a branch of their own; then every
    past decision is taken again with the model of its time and these rules. Nothing is published, served or told.
    `sampan replay approve` brings it to main, `discard` drops it. Exits with 3 if a step failed.
    """
    if ctx.invoked_subcommand is not None:
        return
    app: App = ctx.obj
    request = {
        "since": None if since == _GENESIS else instant("--from", since),
        "until": past(until, app.clock.micros()) if until else None,
        "code": code,
        "sets": parse_sets(sets),
        "reason": reason,
    }
    work = app.work()
    if plan_only or not as_json:
        _show_plan(work.plan_replay(request), as_json)
    if plan_only:
        return
    stop_in_order()
    with screen(app, as_json) as report:
        made = work.replay(request, me(), report)
    _end(ctx, made, as_json)


@replay.command()
@click.argument("replay")
@json_option
@click.pass_context
def resume(ctx: click.Context, replay: str, as_json: bool) -> None:
    """Go on with a replay that was interrupted: what it derived is not derived again."""
    app: App = ctx.obj
    stop_in_order()
    with screen(app, as_json) as report:
        made = app.work().replay({}, me(), report, replay)
    _end(ctx, made, as_json)


@replay.command("list")
@as_of_option
@json_option
@click.pass_obj
def list_(app: "App", as_of: str, as_json: bool) -> None:
    """List replays with what they found."""
    found = app.view("/replays", {"as-of": as_of})
    if as_json:
        emit(found)
        return
    show_table(
        ["replay", "state", "code", "started", "by", "found"],
        [[r["id"], r["state"], r["code"], stamp(r["started"]), r["actor"], r["sentence"]] for r in found["replays"]],
        empty="Nothing was replayed yet. Change a query or a rule, then: sampan replay",
    )


@replay.command()
@click.argument("replay", default="last")
@click.option("--rows", is_flag=True, help="With sample rows of each table.")
@click.option(
    "--to",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the page to this file, to be read without a hub.",
)
@as_of_option
@json_option
@click.pass_obj
def show(app: "App", replay: str, rows: bool, file: Path | None, as_of: str, as_json: bool) -> None:
    """Show a replay's report. REPLAY is an id, its beginning, or `last`."""
    path = "/replays/" + quote(replay, safe="")
    if file is not None:
        html = app.page_file(path, as_of)
        try:
            file.write_text(html, "utf-8")
        except OSError as error:
            raise Usage(
                f"Write {file}", error.strerror or str(error), "Name a file in a folder that is there."
            ) from None
        click.echo(f"Written to {file}: it opens in any browser.")
        return
    found = app.view(path, {"as-of": as_of})
    if as_json:
        emit(found)
        return
    _show(found, rows)


@replay.command()
@click.argument("replay")
@_reason
@json_option
@click.pass_context
def approve(ctx: click.Context, replay: str, reason: str, as_json: bool) -> None:
    """Bring what was replayed to main.

    The workspace must hold the code that was replayed. It is derived on the events of now (what the replay computed is
    cached), checked, and published together.
    """
    app: App = ctx.obj
    stop_in_order()
    with screen(app, as_json) as report:
        result = app.work().approve_replay(replay, reason, me(), report)
    if not as_json and result["deploy"]:
        click.echo("Rules come into force when they are deployed:\n  " + "\n  ".join(result["deploy"]))
    if not as_json and not result["run"]:
        click.echo(f"Approved {replay}: tables and models are as they were.")
        return
    finish(ctx, result, as_json, f"Approved {replay}, merged by run")


@replay.command()
@click.argument("replay")
@json_option
@click.pass_obj
def discard(app: "App", replay: str, as_json: bool) -> None:
    """Drop what was replayed; its report stays."""
    gone = app.work().discard_replay(replay, me())
    if as_json:
        emit(gone)
        return
    click.echo(f"Replay {gone['id']} is discarded; main is as it was.")


def instant(option: str, text: str) -> int:
    """Microseconds of a date or a time in ISO form; without an offset it is UTC."""
    try:
        moment = datetime.fromisoformat(text)
        return to_micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise Usage(
            f"Read {option}", f"{text!r} is no time", "For instance: 2026-01-31, or 2026-01-31T12:00Z."
        ) from None


def _end(ctx: click.Context, made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(made)
    else:
        app: App = ctx.obj
        _show(app.view(f"/replays/{made['id']}"), False)
    ctx.exit(0 if made["state"] == "done" else 3)


def _show_plan(plan: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(plan)
        return
    would = [step for step in plan["steps"] if step["state"] == "ran"]
    changed = ", ".join(plan["changed"]) or "nothing"
    click.echo(f"With {plan['code']}: {changed} {'is' if len(plan['changed']) < 2 else 'are'} not as on main.")
    if would:
        show_table(
            ["step", "kind", "would", "why"],
            [[s["name"], s["kind"], "run" if s["certain"] else "run, perhaps", s["why"]] for s in would],
        )
    for moment in plan["moments"]:
        click.echo(f"{moment['model']} once more as by {iso(moment['time'])[:10]}, instead of {moment['version']}.")
    cost = f", {plan['cost']:.4f} {plan['currency']}" if plan["cost"] else ""
    click.echo(
        f"{plan['events']:,} events, {plan['decisions']:,} decisions; {plan['cached']:.0%} is cached;"
        f" about {_span(plan['seconds'])}{cost}."
    )


def _span(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"


def _show(found: dict[str, Any], rows: bool) -> None:
    report = found["report"]
    if found["error"]:
        click.echo(f"\n{found['error']}\n\nReplay {found['id']} {found['state']}; main is as it was.", err=True)
        click.echo(f"  When that is mended: sampan replay resume {found['id']}", err=True)
        return
    click.echo(f"\nReplay {found['id']} ({found['state']}): {found['sentence']}")
    if not report:
        return
    _section(
        "Tables",
        ["table", "rows", "before", "added", "removed", "changed", "columns"],
        [
            [t["name"], t["rows_after"], t["rows_before"], t["added"], t["removed"], t["changed"], columns(t)]
            for t in report["tables"]
        ],
    )
    if rows:
        for one in report["tables"]:
            click.echo(f"\n{one['name']}")
            samples(one)
    _section(
        "Figures",
        ["model", "metric", "before", "after"],
        [[f["model"], f["metric"], f["before"], f["after"]] for f in report["figures"]],
    )
    for one in report["decisions"]:
        _decisions(one)
    for effect in report["effects"]:
        click.echo(f"\nNot done, but written down: {effect['text']}")
    for note in report["notes"]:
        click.echo(f"\n{note}")
    if report["newer"]:
        click.echo(
            f"\nMain has not seen {report['newer']:,} of the events; `sampan run` first to compare like with like."
        )
    parts = ", ".join(f"{name} {report[name]:.1f} s" for name in ("deriving", "deciding") if report.get(name))
    click.echo(f"\nIt took {report['seconds']:.1f} s ({parts}); {report['expected']:.1f} s were expected.")
    if found["state"] == "done":
        click.echo(f"  sampan replay approve {found['id']}\n  sampan replay discard {found['id']}")


def _decisions(one: dict[str, Any]) -> None:
    click.echo(f"\nDecisions of {one['endpoint']}")
    if one["obstacle"]:
        click.echo(f"  {one['obstacle']}")
        return
    for reason, count in one["unanswered"].items():
        click.echo(f"  {count:,} could not be taken again: {reason}")
    for reason, count in one["fallbacks"].items():
        click.echo(f"  {count:,} took the safe default, since the rule failed: {reason}")
    show_table(
        ["month", "decisions", "differ", "AUC", "would be", "Brier", "would be", "per 1,000", "would be"],
        [
            [
                m["month"],
                m["decisions"],
                m["differ"],
                m["auc_before"],
                m["auc_after"],
                m["brier_before"],
                m["brier_after"],
                m["value_before"],
                m["value_after"],
            ]
            for m in one["months"]
        ],
    )
    if one["moves"]:
        click.echo("")
        show_table(
            ["instead of", "it would have been", "decisions", "with outcome", one["currency"] or "value"],
            [[m["before"], m["after"], m["decisions"], m["known"], m["difference"]] for m in one["moves"]],
        )
    for title, changed in (("The worst of them", one["worst"]), ("The best of them", one["best"])):
        if changed:
            click.echo(f"\n{title}")
            show_table(
                ["decision", "about", "was", "would have been", "rule", "outcome", one["currency"] or "value"],
                [
                    [
                        c["id"],
                        c["entity"],
                        c["action_before"],
                        c["action_after"],
                        c["rule_after"],
                        c["outcome"],
                        c["difference"],
                    ]
                    for c in changed[:5]
                ],
            )
    if one["known"]:
        click.echo(
            f"\n  {one['difference']:+,.2f} {one['currency']} over {one['known']:,} decisions with a known outcome"
            f" (95 % between {one['low']:+,.2f} and {one['high']:+,.2f};"
            f" whatever their outcomes would have been, between {one['least']:+,.2f} and {one['most']:+,.2f})"
        )


def _section(title: str, names: list[str], lines: list[list[Any]]) -> None:
    if lines:
        click.echo(f"\n{title}")
        show_table(names, lines)
