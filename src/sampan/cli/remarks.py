"""``sampan tag`` and ``sampan comment``: what people say of anything that has a page of its own."""

from typing import TYPE_CHECKING, Any

import click

from sampan.base.clock import stamp
from sampan.base.errors import NotFound, Usage
from sampan.cli.output import as_of_option, emit, json_option, table

if TYPE_CHECKING:
    from sampan.app import App


@click.command()
@click.argument("kind")
@click.argument("name")
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--remove", multiple=True, metavar="KEY", help="Take a tag away.")
@click.option("--note", help="Say what it is, in the place of what was said; an empty text takes it away.")
@as_of_option
@json_option
@click.pass_obj
def tag(
    app: "App",
    kind: str,
    name: str,
    pairs: tuple[str, ...],
    remove: tuple[str, ...],
    note: str | None,
    as_of: str,
    as_json: bool,
) -> None:
    """Tag and describe a thing: sampan tag table orders team=sales.

    KIND is model, version (MODEL@N), table, column (TABLE.COLUMN), contract, run, endpoint, replay, branch, impact,
    alert, event (its position or id), item (a position in quarantine) or prediction. Without KEY=VALUE, `--remove` and
    `--note`, shows what is said of it.
    """
    from sampan.cli.run import me

    tags: dict[str, str | None] = dict.fromkeys(remove)
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise Usage(f"Tag {name}", f"{pair!r} is not KEY=VALUE", "For instance: team=pricing")
        tags[key] = value
    if tags or note is not None:
        _now_only(f"Tag {name}", as_of)
        said = app.work().label(kind, name, tags, note, me())
    else:
        told = _said(app, kind, name, as_of)
        said = {"tags": {one["key"]: one["value"] for one in told["tags"]}, "note": told["note"]}
    if as_json:
        emit(said)
        return
    table(["tag", "value"], list(said["tags"].items()), empty=f"{name} has no tags.")
    if said["note"]:
        click.echo(f"\n{said['note']}")


@click.command()
@click.argument("kind")
@click.argument("name")
@click.argument("text", required=False)
@click.option("--withdraw", default="", metavar="ID", help="Put a comment of your own out of sight.")
@as_of_option
@json_option
@click.pass_obj
def comment(app: "App", kind: str, name: str, text: str | None, withdraw: str, as_of: str, as_json: bool) -> None:
    """Comment on a thing: sampan comment table orders "Looks short."

    KIND is one of those that `sampan tag` takes. Without TEXT, shows what has been said. A comment stays, with who made
    it when; of one that is withdrawn, the text is shown no longer.
    """
    from sampan.cli.run import me

    attempted = f"Comment on {name}"
    if withdraw and text is not None:
        raise Usage(attempted, "a text and --withdraw were given", "Do one after the other.")
    if text is not None or withdraw:
        _now_only(attempted, as_of)
        work = app.work()
        made = work.withdraw(withdraw, me()) if text is None else work.comment(kind, name, text, me())
        if as_json:
            emit(made)
        else:
            click.echo(f"Comment {made['id']} on {made['object']}{' is withdrawn' if made['withdrawn'] else ''}.")
        return
    told = _said(app, kind, name, as_of)
    if as_json:
        emit({"comments": told["comments"]})
        return
    if told["earlier"]:
        click.echo(f"{told['earlier']} earlier ones are not shown.")
    for one in told["comments"]:
        click.echo(f"{stamp(one['at'])} {one['actor']} ({one['id']})")
        click.echo("  (withdrawn)" if one["withdrawn"] else f"  {one['text']}".replace("\n", "\n  "))
    if not told["comments"]:
        click.echo(f"Nobody has said anything of {name} yet.")


def _now_only(attempted: str, as_of: str) -> None:
    if as_of:
        raise Usage(attempted, f"--as-of {as_of[:60]!r} was given", "What is past can only be looked at. Leave it out.")


def _said(app: "App", kind: str, name: str, as_of: str) -> dict[str, Any]:
    """What the page of an object says of it. Raises NotFound for a kind that is none."""
    if kind == "version" and not name.rpartition("@")[2].isdecimal():
        from sampan.cli.model import named

        model, at, alias = name.partition("@")
        if not at:
            raise Usage(f"See {name}", "it names no version", f"Write {name}@NUMBER.")
        name = f"{model}@{named(app, model, alias, as_of)}"
    if kind == "event" and ":" not in name:
        name = _position(app, name)
    page: dict[str, Any] = app.view(app.page_of(kind, name), {"as-of": as_of})
    if kind != "column":
        return dict(page["remarks"])
    column = next((one for one in page["columns"] if one["name"] == name.partition(".")[2]), None)
    if column is None:
        raise NotFound(f"See the column {name}", "its table has none of that name", "`sampan table show` shows them.")
    return column["remarks"] or {"tags": [], "note": "", "comments": [], "earlier": 0}


def _position(app: "App", id: str) -> str:
    """Where an event of an id is."""
    events = app.view("/log", {"id": id})["events"]
    if not events:
        raise NotFound(f"See the event {id}", "the log has none with this id", "`sampan log tail` shows the newest.")
    return str(events[0]["position"])
