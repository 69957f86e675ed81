"""``sampan runs``: executions of the flow."""

from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from sampan.base.clock import stamp
from sampan.cli.output import as_of_option, emit, fields, json_option, table

if TYPE_CHECKING:
    from sampan.app import App


@click.group()
def runs() -> None:
    """Executions of the flow, with steps, logs and manifest. RUN is an id, its beginning, or `last`."""


@runs.command("list")
@click.option("--limit", default=20, show_default=True, help="How many, newest first.")
@as_of_option
@json_option
@click.pass_obj
def list_(app: "App", limit: int, as_of: str, as_json: bool) -> None:
    """List the newest runs."""
    found = app.view("/runs", {"limit": limit, "as-of": as_of})
    if as_json:
        emit(found)
        return
    table(
        ["run", "state", "target", "steps", "seconds", "by", "started"],
        [
            [
                r["run"],
                r["state"],
                r["target"] or "everything",
                ", ".join(f"{n} {s}" for s, n in r["steps"].items()),
                r["seconds"],
                r["actor"],
                stamp(r["started"]),
            ]
            for r in found["runs"]
        ],
        empty="Nothing has run yet. `sampan plan` says what would.",
    )


@runs.command()
@click.argument("run", default="last")
@click.option("--manifest", is_flag=True, help="Only what it was made from: eleven things, each with its digest.")
@as_of_option
@json_option
@click.pass_obj
def show(app: "App", run: str, manifest: bool, as_of: str, as_json: bool) -> None:
    """Show one run: steps, reasons, manifest."""
    found = app.view(f"/runs/{quote(run, safe='')}", {"as-of": as_of})
    if as_json:
        emit(found["made_from"] if manifest else found)
        return
    if manifest:
        table(
            ["made from", "digest", "which is"],
            [[one["name"], one["digest"][:12] or "–", one["says"]] for one in found["made_from"]],
        )
        return
    names = ("run", "state", "target", "branch", "commit", "git", "position", "root", "actor", "seconds", "cost")
    fields((name, found[name]) for name in names)
    if found["error"]:
        click.echo(f"\n{found['error']}")
    click.echo()
    table(
        ["step", "kind", "state", "seconds", "digest", "why", "value"],
        [
            [s["name"], s["kind"], s["state"], s["seconds"], s["digest"][:13], s["why"], s["value"]]
            for s in found["steps"]
        ],
    )


@runs.command()
@click.argument("run", default="last")
@click.argument("step", default="")
@click.pass_obj
def logs(app: "App", run: str, step: str) -> None:
    """Print what the steps of a run wrote; STEP chooses one."""
    found = app.view(f"/runs/{quote(run, safe='')}")
    names = [name for name in found["logs"] if not step or name == f"{step}.log" or name.startswith(f"{step}.")]
    if not names:
        click.echo(f"{step or 'No step'} of run {found['run']} printed {'nothing' if step else 'anything'}.", err=True)
        if any(one["state"] == "cached" and (not step or one["name"] == step) for one in found["steps"]):
            click.echo("  What is cached printed in the run that made it: `sampan why STEP` names it.", err=True)
    for name in names:
        if len(names) > 1:
            click.echo(f"── {name}")
        click.echo(app.view(f"/runs/{found['run']}/logs/{quote(name, safe='')}")["text"].rstrip("\n"))
