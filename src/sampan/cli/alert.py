"""``sampan alert``: what needs somebody, and whom it was told."""

import re
from typing import TYPE_CHECKING, Any

import click

from sampan.base.clock import stamp
from sampan.base.errors import No, NotFound, Usage
from sampan.cli.output import as_of_option, emit, fields, json_option, table

if TYPE_CHECKING:
    from sampan.app import App

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@click.group()
def alert() -> None:
    """Limits that were crossed: what is open, whom it was told."""


@alert.command("list")
@click.option("--open", "only_open", is_flag=True, help="Only what is open.")
@as_of_option
@json_option
@click.pass_obj
def list_(app: "App", only_open: bool, as_of: str, as_json: bool) -> None:
    """List alerts, open ones first. Exit code 1 with --open if there is any."""
    found = app.view("/alerts", {"as-of": as_of})
    lines = [line["alert"] for line in (*found["open"], *(() if only_open else found["resolved"]))]
    if as_json:
        emit(lines)
    else:
        table(
            ["alert", "state", "since", "about", "what", "reason"],
            [[a["id"], _state(a), stamp(a["opened"]), a["about"], a["title"], a["reason"]] for a in lines],
            empty="No alert is open." if only_open else "No alert so far.",
        )
    if only_open and lines:
        raise click.exceptions.Exit(1)


def _state(alert: dict[str, Any]) -> str:
    return "open" if alert["resolved"] is None else "over"


@alert.command()
@click.argument("alert")
@as_of_option
@json_option
@click.pass_obj
def show(app: "App", alert: str, as_of: str, as_json: bool) -> None:
    """Show one alert: reason, cause, example, what to do, whom it was told."""
    found = app.view(f"/alerts/{alert}", {"as-of": as_of})
    if as_json:
        emit(found)
        return
    told = found["alert"]
    names = ("title", "reason", "cause", "action", "owner", "producer", "type", "field", "example", "evidence")
    fields((name, told[name]) for name in names if told[name])
    times = (("opened", told["opened"]), ("over", told["resolved"]))
    fields((name, stamp(when)) for name, when in times if when is not None)
    click.echo()
    table(
        ["message", "to", "state", "attempts", "error"],
        [[d["event"], d["target"], d["state"], d["attempts"], d["error"]] for d in found["deliveries"]],
        empty=told["silenced"] or "Nobody was told: [alerts] in sampan.toml names nobody.",
    )


@alert.command()
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@json_option
@click.pass_obj
def test(app: "App", targets: tuple[str, ...], as_json: bool) -> None:
    """Send a test to every target of sampan.toml, or to those named. Exit code 1 if one does not get it."""
    found: dict[str, str] = app.work().test_alerts(list(targets))
    if as_json:
        emit(found)
    else:
        table(
            ["target", "result"],
            [[name, error or "delivered"] for name, error in found.items()],
            empty="Nobody to tell yet. Write targets or webhooks under [alerts] in sampan.toml.",
        )
    if not found or any(found.values()):
        raise click.exceptions.Exit(No.exit_code)


@alert.command()
@click.argument("what")
@click.option("--for", "span", default="1h", show_default=True, help="How long: 90s, 30m, 2h, 7d.")
@click.option("--reason", default="", help="Why; it is shown with the alerts.")
@json_option
@click.pass_obj
def silence(app: "App", what: str, span: str, reason: str, as_json: bool) -> None:
    """Tell nobody of a kind of alert, or of one, for a while.

    WHAT is a kind (quarantined, silent, run_failed, endpoint_down, disk, log_fault, sealing, differs, rebuild_failed,
    rollout, review, exposure, damaged, outcomes, shadow), or one of them with what it is about, such as
    quarantined:till. Alerts are recorded all the same.
    """
    from sampan.cli.run import me

    match = re.fullmatch(r"(\d+)([smhd])", span)
    if match is None:
        raise Usage("Read --for", f"{span!r} is no duration", "For instance: --for 2h")
    made = app.work().silence(what, int(match[1]) * _UNITS[match[2]], reason, me())
    if as_json:
        emit(made)
        return
    click.echo(f"Nobody is told of {made['what']} until {stamp(made['until'])}.")


@alert.command()
@click.argument("what")
@json_option
@click.pass_obj
def unsilence(app: "App", what: str, as_json: bool) -> None:
    """Take back what `silence` said about WHAT, before it ends by itself.

    It counts for alerts that open from then on.
    """
    from sampan.cli.run import me

    standing = app.view("/alerts")["silences"]
    ids = [one["id"] for one in standing if one["what"] == what]
    if not ids:
        known = ", ".join(sorted({one["what"] for one in standing}))
        raise NotFound("Take back a silence", f"none is in force about {what!r}", f"In force: {known or 'none'}.")
    ended = [app.work().unsilence(id, me()) for id in ids]
    if as_json:
        emit(ended)
        return
    click.echo(f"Alerts about {what} are told again.")
