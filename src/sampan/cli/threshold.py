"""``sampan threshold``: other thresholds for the rule of an endpoint, from a trial on the past to a rollout."""

from typing import TYPE_CHECKING, Any

import click

from sampan.base.clock import iso
from sampan.cli.endpoint import threshold as _set
from sampan.cli.output import as_of_option, emit, fields, json_option, table

if TYPE_CHECKING:
    from sampan.app import App


@click.group()
def threshold() -> None:
    """Thresholds of rules: try others on the past, propose, roll out.

    `try` says what the last days' decisions would have been. `ask` proposes it; whom policy.toml asks under the alias
    `thresholds` approves; `ship` begins the endpoint's rollout with exactly what was tried.
    """


@threshold.command("try")
@click.argument("endpoint")
@click.option("--set", "sets", multiple=True, required=True, metavar="THRESHOLD=VALUE", help="Another value.")
@click.option("--days", default=30, show_default=True, help="On the decisions of how many days.")
@json_option
@click.pass_obj
def try_(app: "App", endpoint: str, sets: tuple[str, ...], days: int, as_json: bool) -> None:
    """See what other thresholds would have decided on ENDPOINT. Changes nothing."""
    from sampan.cli.run import me

    made = app.work().try_thresholds(endpoint, dict(_set(text) for text in sets), days, me())
    _told(app, made, as_json)


@threshold.command("list")
@as_of_option
@json_option
@click.pass_obj
def list_(app: "App", as_of: str, as_json: bool) -> None:
    """List proposals, the newest first."""
    found = app.view("/proposals", {"as-of": as_of})["proposals"]
    if as_json:
        emit(found)
        return
    rows = []
    for line in found:
        one = line["proposal"]
        rows.append([one["id"], one["endpoint"], _changes(one), line["state"], one["actor"], line["sentence"]])
    columns = ["proposal", "endpoint", "change", "state", "by", "effect"]
    table(columns, rows, empty="Nothing is proposed. `sampan threshold try ENDPOINT --set NAME=VALUE` begins.")


@threshold.command()
@click.argument("proposal")
@as_of_option
@json_option
@click.pass_obj
def show(app: "App", proposal: str, as_of: str, as_json: bool) -> None:
    """Show one proposal: what it would have changed, who says what, what is missing."""
    found = app.view(f"/proposals/{proposal}", {"as-of": as_of})
    if as_json:
        emit(found)
    else:
        _show(found["proposal"], found["standing"], found["sentence"])


def _verb(name: str, method: str, help: str, needed: bool = False) -> None:
    @threshold.command(name, help=help)
    @click.argument("proposal")
    @click.option("--reason", default="", required=needed, help="Why; it stays with the proposal.")
    @json_option
    @click.pass_obj
    def tell(app: "App", proposal: str, reason: str, as_json: bool) -> None:
        from sampan.cli.run import me

        work = app.work()
        given = {"approve": ("approved",), "reject": ("rejected",)}.get(name, ())
        _told(app, getattr(work, method)(proposal, *given, reason, me()), as_json)


_verb("ask", "ask_proposal", "Ask for approval of what was tried.", needed=True)
_verb("approve", "decide_proposal", "Say yes to a proposal.")
_verb("reject", "decide_proposal", "Say no to a proposal.", needed=True)
_verb("withdraw", "withdraw_proposal", "Let a proposal be.")
_verb(
    "ship", "ship_proposal", "Begin the rollout of a proposal by its endpoint's plan. Exit code 1 while it may not be."
)


@threshold.command()
@click.argument("proposal")
@json_option
@click.pass_obj
def patch(app: "App", proposal: str, as_json: bool) -> None:
    """Print a patch that gives decisions.py the proposed defaults: sampan threshold patch ID | git apply"""
    made = app.work().proposal_patch(proposal)
    if as_json:
        emit(made)
    else:
        click.echo(made["patch"], nl=False)


def _told(app: "App", made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(made)
        return
    from msgspec import convert

    from sampan.serve.counterfactual import Counterfactual, in_words

    _show(made["proposal"], made["standing"], in_words(convert(made["proposal"]["effect"], Counterfactual)))
    if made.get("phase"):
        click.echo(f"\nIts rollout is {made['phase']}: {made['why']}")


def _show(one: dict[str, Any], standing: dict[str, Any], sentence: str) -> None:
    effect = one["effect"]
    fields(
        [
            ("proposal", one["id"]),
            ("endpoint", f"{one['endpoint']} ({one['version']}, rule {one['decision']})"),
            ("change", _changes(one)),
            ("state", standing["state"]),
            ("effect", sentence),
            ("on", f"{effect.get('decisions', 0):,} of {one['of']:,} requests since {iso(one['since'])[:10]}"),
            *([("reason", one["reason"])] if one["reason"] else []),
            *([("rollout", one["rollout"])] if one["rollout"] else []),
            *(
                [("closed", f"{one['closed_as']} by {one['closed_by']}: {one['closed_why']}")]
                if one["closed_why"]
                else []
            ),
        ]
    )
    if effect.get("moves"):
        click.echo()
        table(
            ["is", "would be", "decisions", "known", f"difference {effect.get('currency', '')}".strip()],
            [[m["before"], m["after"], m["decisions"], m["known"], round(m["difference"], 2)] for m in effect["moves"]],
        )
    for text in standing["missing"]:
        click.echo(f"  missing: {text}")
    for voice in standing["voices"]:
        click.echo(f"  {voice['actor']}: {voice['verdict']}{', ' + voice['reason'] if voice['reason'] else ''}")
    if standing["state"] == "tried":
        click.echo(f'\nPropose it: sampan threshold ask {one["id"]} --reason "…"')
    elif standing["state"] == "ready":
        click.echo(f"\nRoll it out: sampan threshold ship {one['id']}")


def _changes(one: dict[str, Any]) -> str:
    return ", ".join(f"{name} {change['before']} → {change['after']}" for name, change in one["changes"].items())
