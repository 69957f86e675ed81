"""``sampan rollout rehearse``: a rollout over the past."""

from typing import TYPE_CHECKING, Any

import click

from sampan.base.clock import iso
from sampan.cli.endpoint import threshold
from sampan.cli.output import emit, fields, json_option, table
from sampan.cli.replay import instant
from sampan.cli.run import me, screen, stop_in_order

if TYPE_CHECKING:
    from sampan.app import App


@click.command()
@click.argument("endpoint")
@click.option("--since", required=True, metavar="TIME", help="Of the decisions from then on.")
@click.option("--until", default="", metavar="TIME", help="Of those before then; up to now if nothing is said.")
@click.option("--model", default="", metavar="MODEL[@N]", help="The candidate; else the model that decided then.")
@click.option(
    "--retrain",
    type=click.Choice(["day", "week", "month"]),
    help="The candidate is trained anew as each begins, on what was known by then.",
)
@click.option("--every", default="7 days", show_default=True, metavar="SPAN", help="How often it is looked.")
@click.option("--decision", default="", help="The rule, where decisions.py has several for the model.")
@click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="A threshold of the candidate's rule.")
@click.option("--both", multiple=True, metavar="NAME=VALUE", help="A threshold of the rule on both sides.")
@click.option("--reason", default="", help="Why; it stays with it.")
@json_option
@click.pass_obj
def rehearse(
    app: "App",
    endpoint: str,
    since: str,
    until: str,
    model: str,
    retrain: str | None,
    every: str,
    decision: str,
    sets: tuple[str, ...],
    both: tuple[str, ...],
    reason: str,
    as_json: bool,
) -> None:
    """Play a rollout over decisions of the past.

    A candidate answers the requests that the log holds, as a shadow would have; with --retrain it is the model as it
    would have been trained by then. The plan in rollouts.toml looks at both sides again and again, each time with the
    outcomes that were known, until it would have promoted the candidate, or taken it back. Nothing is served or told.
    """
    request = {
        "endpoint": endpoint,
        "since": instant("--since", since),
        "until": instant("--until", until) if until else None,
        "model": model,
        "decision": decision,
        "thresholds": dict(threshold(text) for text in sets),
        "both": dict(threshold(text) for text in both),
        "retrain": retrain or "",
        "every": every,
        "reason": reason,
    }
    stop_in_order()
    with screen(app, as_json) as report:
        found = app.work().rehearse(request, me(), report)
    if as_json:
        emit(found)
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    ended = {"full": "would have been promoted", "reverted": "would have been taken back"}.get(
        found["phase"], "would have gone on as a shadow"
    )
    candidates = list(dict.fromkeys(found["candidates"]))
    shown = candidates[0] if len(candidates) == 1 else f"{candidates[0]} to {candidates[-1]}"
    click.echo(
        f"{shown} against {found['champion']} on {found['decisions']:,} decisions of {found['endpoint']}: "
        f"{ended} on {iso(found['at'])[:10]}."
    )
    click.echo(f"  {found['why']}")
    click.echo("\nOver the whole span, with what is known now:")
    table(
        ["figure", "verdict", "says"],
        [[name, look["verdict"], look["why"]] for name, look in found["figures"].items()],
    )
    click.echo()
    facts = [("rehearsal", found["id"]), ("looks", found["looks"])]
    fields(facts + ([("left out", ", ".join(found["left_out"]))] if found["left_out"] else []))
