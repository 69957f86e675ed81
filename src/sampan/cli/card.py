"""``sampan card``: a version, or all that is derived, told to people who do not look at code."""

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from sampan.base.errors import No, Usage
from sampan.base.files import write_durably
from sampan.base.ids import whole
from sampan.cli.model import named
from sampan.cli.output import emit, json_option, table

if TYPE_CHECKING:
    from sampan.app import App


@click.command()
@click.argument("ref", required=False, default="")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write it as one HTML file.")
@click.option("--check", is_flag=True, help="Exit with 1 if something that it claims does not hold.")
@json_option
@click.pass_context
def card(ctx: click.Context, ref: str, out: Path | None, check: bool, as_json: bool) -> None:
    """Tell people what a version is and whether what is claimed of it holds.

    REF is MODEL@NUMBER or MODEL@ALIAS; without one, it is the card of the whole flow. cards/MODEL.toml says what a
    model is for and what is claimed of it.
    """
    app: App = ctx.obj
    path = "/card"
    if ref:
        model, _, number = ref.partition("@")
        if not number:
            raise Usage(f"Make a card of {ref}", "it names no version", f"Write {model}@NUMBER, or {model}@ALIAS.")
        number = number if whole(number) is not None else str(named(app, model, number))
        path = f"/models/{quote(model, safe='')}/{quote(number, safe='')}/card"
    found = app.view(path)
    if out is not None:
        write_durably(out, app.page_file(path).encode())
    if as_json:
        emit(found)
    elif ref:
        table(["claim", "now", "because"], [[c["text"], _word(c["state"]), c["says"]] for c in found["claims"]])
    else:
        rows = [[s["name"], s["kind"], _stands(s), s["why"]] for s in found["steps"]]
        table(["step", "kind", "now", "because"], rows, empty="Nothing is derived yet: `sampan run`.")
    if out is not None and not as_json:
        click.echo(f"\nWritten to {out}.")
    ctx.exit(No.exit_code if check and found["broken"] else 0)


def _word(state: str) -> str:
    return "no longer holds" if state == "broken" else state


def _stands(step: dict[str, Any]) -> str:
    if step["holds"]:
        return "holds"
    return "not yet" if step["state"] == "new" else "behind" if step["behind"] else "no longer holds"
