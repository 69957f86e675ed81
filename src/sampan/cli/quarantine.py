"""``sampan quarantine``: events that broke their contract."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from sampan.base.clock import iso, stamp
from sampan.base.errors import Usage
from sampan.cli.output import as_of_option, emit, fields, json_option, table

if TYPE_CHECKING:
    from sampan.app import App


@click.group()
def quarantine() -> None:
    """Events that broke their contract: look, repair. They are kept whole, as they were sent."""


@quarantine.command("list")
@click.option("--reason", default="", help="Only items with this reason: the items themselves.")
@as_of_option
@json_option
@click.pass_obj
def list_(app: "App", reason: str, as_of: str, as_json: bool) -> None:
    """List what waits in quarantine, by reason."""
    found = app.view("/quarantine", {"reason": reason, "as-of": as_of})
    if as_json:
        emit(found)
    elif reason:
        table(
            ["position", "received", "id", "type", "begins with"],
            [[i["position"], stamp(i["received"]), i["id"], i["type"], i["excerpt"][:80]] for i in found["items"]],
            empty="None has this reason.",
        )
    else:
        table(
            ["events", "reason", "where", "type", "producer", "example"],
            [[r["count"], r["reason"], r["path"], r["type"], r["producer"], r["example"]] for r in found["reasons"]],
            empty="Quarantine is empty.",
        )


@quarantine.command()
@click.argument("position")
@as_of_option
@json_option
@click.pass_obj
def show(app: "App", position: str, as_of: str, as_json: bool) -> None:
    """Show one item with its bytes; POSITION as `list` prints it."""
    found = app.view(f"/quarantine/{quote(position, safe=':')}", {"as-of": as_of})
    if as_json:
        emit(found)
        return
    names = ("position", "reason", "path", "type", "id", "source", "producer", "protocol", "part")
    fields((name, found[name]) for name in names if found.get(name) or name not in ("protocol", "part"))
    click.echo(f"received  {iso(found['received'])}\n\n{found['raw']}")


@quarantine.command()
@click.option("--rule", required=True, type=click.Path(path_type=Path), help="Python file with def fix(event, reason).")
@click.option("--reason", default=None, help="Only items whose reason begins so.")
@click.option("--why", default="", help="Why they are repaired; the history keeps it.")
@click.option("--dry-run", is_flag=True, help="Say what would come of it; change nothing.")
@json_option
@click.pass_obj
def fix(app: "App", rule: Path, reason: str | None, why: str, dry_run: bool, as_json: bool) -> None:
    """Repair what waits by a rule; what it repairs enters the log exactly once.

    The rule is a file with `def fix(event: dict, reason: str) -> dict | None`; None leaves an event where it is. It
    runs here; the hub gets events, never code. The bytes in quarantine stay as they are.
    """
    import msgspec

    from sampan.base.digests import digest_bytes
    from sampan.cli.run import me
    from sampan.log.quarantine import Quarantine
    from sampan.log.repairs import Told

    if app.remote:
        raise Usage("Repair quarantined events", "they lie with the hub of SAMPAN_URL", "Run this in the workspace.")
    proposals = Quarantine(app.log).propose(rule, reason=reason)
    if dry_run:
        if as_json:
            emit({"proposals": msgspec.to_builtins(proposals)})
            return
        fits = [one for one in proposals if one.after is not None and one.wrong is None]
        for one in proposals[:20]:
            click.echo(f"{one.position}  {one.reason}")
            click.echo(f"  - {one.before[:300]}")
            if one.after is None:
                click.echo("    left where it is")
            else:
                click.echo(f"  + {one.after[:300]}" + (f"\n    still wrong: {one.wrong}" if one.wrong else ""))
        if len(proposals) > 20:
            click.echo(f"… and {len(proposals) - 20:,} more")
        click.echo(f"{len(fits):,} of {len(proposals):,} would enter the log. Nothing was changed.")
        return
    text = rule.read_bytes()
    told = Told(text.decode(errors="replace"), rule.name, why)
    done = app.work().repair(msgspec.to_builtins(proposals), digest_bytes(text), me(), told)
    if as_json:
        emit(done)
        return
    click.echo(
        f"{done['accepted']:,} entered the log, {done['duplicate']:,} were there already, {done['left']:,} were left, "
        f"{done['wrong']:,} still do not fit."
    )
