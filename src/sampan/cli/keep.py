"""``sampan gc`` and ``sampan pin``: what is kept, and what goes."""

from typing import TYPE_CHECKING, Any

import click

from sampan.base.clock import stamp
from sampan.base.errors import No
from sampan.cli.output import emit, json_option
from sampan.cli.output import table as show_table
from sampan.cli.run import me

if TYPE_CHECKING:
    from sampan.app import App


@click.command()
@click.option("--apply", is_flag=True, help="Remove it. Without: only say what would go.")
@json_option
@click.pass_obj
def gc(app: "App", apply: bool, as_json: bool) -> None:
    """Say what nothing keeps any longer, and remove it.

    Kept is what branches, pins and endpoints name, all versions of models, and what is younger than [retention] in
    sampan.toml says. The log, its attachments and keys are never touched. A second walk, from the files to who names
    them, has to agree; exits with 1 if it does not.
    """
    found = app.work().clean(apply, me(), lambda step: None)
    if as_json:
        emit(found)
    else:
        _show(found)
    if not found["proof"]["agrees"]:
        raise click.exceptions.Exit(No.exit_code)


def _show(found: dict[str, Any]) -> None:
    went = "gone" if found["applied"] else "would go"
    show_table(
        ["what", "stays", "bytes", went, "bytes", "too young"],
        [[k["kind"], k["kept"], k["kept_bytes"], k["gone"], k["gone_bytes"], k["young"]] for k in found["kinds"]],
    )
    if found["largest"]:
        click.echo("\nLarge, and kept")
        show_table(
            ["what", "name", "bytes", "by"],
            [[one["kind"], one["name"][:12], one["bytes"], one["why"]] for one in found["largest"]],
        )
    proof = found["proof"]
    click.echo()
    for name, who in found["missing"].items():
        click.echo(f"{name[:35]} is missing, though named: {who}", err=True)
    for name, who in proof["objections"].items():
        click.echo(f"{name[:35]} must not go: {who} names it", err=True)
    if not proof["agrees"]:
        click.echo("The second walk, from the files to who names them, does not agree. Please report it.")
        return
    click.echo(
        f"{found['gone']:,} files, {found['gone_bytes']:,} bytes {went}. The second walk asked who names each of"
        f" {proof['asked']:,} files: {proof['named']:,} are named, none of these {went.replace('gone', 'went')}."
    )
    if not found["applied"] and (found["gone"] or any(kind["gone"] for kind in found["kinds"])):
        click.echo("  sampan gc --apply")


@click.group()
def pin() -> None:
    """Commits, versions and runs that stay whatever their age."""


@pin.command()
@click.argument("ref")
@click.option("--reason", required=True, help="Why; whoever wants to remove it later reads this.")
@json_option
@click.pass_obj
def add(app: "App", ref: str, reason: str, as_json: bool) -> None:
    """Keep REF: @COMMIT, a branch's newest commit, MODEL@NUMBER with the tables it was made of, or a run."""
    made = app.work().pin(ref, reason, me())
    if as_json:
        emit(made)
        return
    click.echo(f"{made['ref']} stays until `sampan pin remove {made['ref']}`.")


@pin.command("list")
@json_option
@click.pass_obj
def list_(app: "App", as_json: bool) -> None:
    """List what is pinned, by whom and why."""
    found = app.work().pins()
    if as_json:
        emit(found)
        return
    show_table(
        ["pinned", "since", "by", "why"],
        [[one["ref"], stamp(one["created"]), one["actor"], one["reason"]] for one in found],
        empty="Nothing is pinned.",
    )


@pin.command()
@click.argument("ref")
@json_option
@click.pass_obj
def remove(app: "App", ref: str, as_json: bool) -> None:
    """Let REF go when it is old and nothing else keeps it."""
    gone = app.work().unpin(ref, me())
    if as_json:
        emit(gone)
        return
    click.echo(f"{gone['ref']} is no longer pinned.")
