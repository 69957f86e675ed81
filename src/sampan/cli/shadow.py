"""``sampan shadow``: candidates that say what they would have said, beside any rollout."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from sampan.base.clock import iso
from sampan.cli.endpoint import threshold
from sampan.cli.output import as_of_option, emit, fields, json_option, table

if TYPE_CHECKING:
    from sampan.app import App


@click.group()
def shadow() -> None:
    """Candidates that say what they would have said, as many as you like."""


@shadow.command()
@click.argument("endpoint")
@click.option("--model", default="", metavar="MODEL[@N]", help="The candidate; else the newest version of ENDPOINT.")
@click.option(
    "--decision",
    default="",
    help="Which rule of decisions.py, where several are declared for the model; none: no rule.",
)
@click.option("--set", "sets", multiple=True, metavar="THRESHOLD=VALUE", help="Change a threshold of the rule.")
@click.option(
    "--sample", type=float, default=1.0, show_default=True, help="Of the entities, the share whose requests it sees."
)
@click.option("--reason", default="", help="Why; it stays in the history.")
@json_option
@click.pass_obj
def start(
    app: "App",
    endpoint: str,
    model: str,
    decision: str,
    sets: tuple[str, ...],
    sample: float,
    reason: str,
    as_json: bool,
) -> None:
    """Have a candidate follow what ENDPOINT predicts, from now on.

    It is a version, or the same version behind other rules or thresholds. It answers each prediction again as soon as
    that stands in the log, in a process of its own; nobody waits for it, its rules call nobody, and what it is late
    for it catches up with. Any number may follow one endpoint. None is ever put in force by what it says: begin a
    rollout for that.
    """
    from sampan.cli.run import me

    thresholds = dict(threshold(text) for text in sets)
    made = app.work().begin_shadow(endpoint, model, decision, thresholds, sample, reason, me())
    if as_json:
        emit(made)
        return
    click.echo(f"{made['version']} follows what {made['endpoint']} predicts, beside {made['champion']}: {made['id']}")
    if not made["hub"]:
        click.echo("  No hub is up; with `sampan up` it begins.")
    click.echo(f"  `sampan shadow show {made['id']}` says what it would have said.")


@shadow.command("list")
@click.option("--endpoint", default="", help="Only those beside what this endpoint serves.")
@as_of_option
@json_option
@click.pass_obj
def list_(app: "App", endpoint: str, as_of: str, as_json: bool) -> None:
    """List shadows beside what is served, by endpoint: agreement, calibration, and what they would have gained."""
    asked = {"as-of": as_of, **({"endpoint": endpoint} if endpoint else {})}
    found = app.view("/shadows", asked, live=True)["endpoints"]
    if as_json:
        emit(found)
        return
    table(
        [
            *("shadow", "endpoint", "candidate", "champion", "state", "asked", "same action", "Brier", "champion's"),
            *("by the KPI", "began", "by"),
        ],
        [[*_row(of, one), iso(one["began"])[:19], one["actor"]] for of in found for one in of["shadows"]],
        empty="No shadow yet. `sampan shadow start ENDPOINT --model MODEL@N` begins one.",
    )


def _row(of: dict[str, Any], one: dict[str, Any]) -> list[Any]:
    found = one["summary"] or {"asked": 0, "answered": 0, "same_action": 0, "brier": None}
    same = f"{found['same_action'] / found['answered']:.2%}" if found["answered"] else ""
    brier = [f"{score:.4f}" for score in found["brier"][::-1]] if found["brier"] else ["", ""]
    state = f"{one['state']}, {one['behind']:,} to come" if one["behind"] else one["state"]
    other = f"{one['version']} ({', '.join(one['changed'])})" if one["changed"] else one["version"]
    head = [one["id"], of["endpoint"], other, of["champion"], state]
    return [*head, found["asked"], same, *brier, one["gain"]["verdict"] if one["gain"] else ""]


@shadow.command()
@click.argument("shadow")
@as_of_option
@json_option
@click.pass_obj
def show(app: "App", shadow: str, as_of: str, as_json: bool) -> None:
    """Show what a shadow said beside what was answered: agreement, calibration, latency, where they differ most."""
    found = app.view(f"/shadows/{shadow}", {"as-of": as_of}, live=True)
    if as_json:
        emit(found)
        return
    one = found["shadow"]
    gain = one["gain"]
    told = [
        ("shadow", one["id"]),
        ("endpoint", one["endpoint"]),
        ("state", f"{one['state']}: {one['ended_why']}" if one["ended_why"] else one["state"]),
        ("to come", f"{one['behind']:,}" if one["behind"] else ""),
        ("trouble", one["error"]),
        ("by the KPI", f"{gain['verdict']}: {gain['why']}" if gain else one["silent"]),
    ]
    compared([(name, value) for name, value in told if value], found)


@shadow.command()
@click.argument("shadow")
@click.option("--reason", required=True, help="Why; it stays in the history.")
@json_option
@click.pass_obj
def end(app: "App", shadow: str, reason: str, as_json: bool) -> None:
    """End a shadow. What it has said stays."""
    from sampan.cli.run import me

    made = app.work().end_shadow(shadow, reason, me())
    if as_json:
        emit(made)
    else:
        click.echo(f"{made['version']} follows {made['endpoint']} no more.")


def compared(first: Sequence[tuple[str, str]], found: dict[str, Any]) -> None:
    """Print what a shadow said beside what was answered; ``first``: fields that come before."""
    one = found["compared"]
    calibration, apart, latency = one["calibration"], one["apart"], one["latency"]
    told = [
        *first,
        ("candidate", found["candidate"]),
        ("champion", found["champion"]),
        ("answered", f"{one['answered']:,} of {one['asked']:,}"),
        ("same action", f"{one['same_action'] / one['answered']:.2%}" if one["answered"] else ""),
        ("differ by", "half {:.4g}, 95 % {:.4g}, at most {:.4g}".format(*apart) if apart else ""),
        ("correlation", "" if one["correlation"] is None else f"{one['correlation']:.4f}"),
        ("Brier score", "{1:.4f}, champion {0:.4f}".format(*calibration["brier"]) if calibration else ""),
        ("outcomes known", f"{calibration['known']:,}" if calibration else ""),
        ("takes", _milliseconds(latency[1]) + ", champion " + _milliseconds(latency[0]) if latency else ""),
    ]
    fields((name, value) for name, value in told if value)
    click.echo()
    table(
        ["prediction", "about", found["champion"], found["candidate"], "apart", "action", "would be"],
        [
            [p["prediction_id"], p["entity"], p["said"], p["other"], p["apart"], p["action"], p["other_action"]]
            for p in one["furthest"]
        ],
        empty="They differ nowhere." if one["answered"] else "It was asked nothing.",
    )
    wrong = [*one["errors"], *((f"would have called {whom}", count) for whom, count in one["calls"])]
    if wrong:
        click.echo()
        table(["what went wrong", "requests"], wrong)


def _milliseconds(pair: Sequence[float]) -> str:
    return f"{pair[0] / 1000:.1f} ms (99 of 100 below {pair[1] / 1000:.1f})"
