"""``sampan reproduce``: a version made anew from what is kept of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sampan.base.errors import No, SampanError, Usage
from sampan.cli.output import emit, fields, json_option, table
from sampan.cli.run import me

if TYPE_CHECKING:
    from sampan.app import App

_CODES = {"bit-identical": 0, "within tolerance": 0, "different": No.exit_code, "failed": SampanError.exit_code}


@click.command()
@click.argument("ref")
@click.option(
    "--into", type=click.Path(path_type=Path), metavar="DIR", help="Make it in this empty folder, and leave it there."
)
@click.option("--here", is_flag=True, help="In the running environment, if it is exactly the recorded one.")
@click.option(
    "--tolerance", default=0.0, show_default=True, help="By which share of itself each metric may differ: 0.001."
)
@json_option
@click.pass_context
def reproduce(ctx: click.Context, ref: str, into: Path | None, here: bool, tolerance: float, as_json: bool) -> None:
    """Make a version anew from what is kept of it, and compare.

    REF is MODEL@NUMBER, or MODEL for the one on main. The commit and the patch of its run are checked out, its packages
    installed by uv in an environment of its own, its inputs taken as they were; then it is trained in a fresh process.
    Exits with 0 if it comes out bit-identical, or with metrics within the tolerance; with 1 if it comes out otherwise;
    with 3 if it cannot be made, and says what is missing. Each attempt is kept with the version.
    """
    app: App = ctx.obj
    if app.remote:
        raise Usage(f"Reproduce {ref}", "SAMPAN_URL names a hub elsewhere", "Run it where the workspace lies.")

    def tell(said: str) -> None:
        if not as_json:
            click.echo(f"  {said}", err=True)

    found = app.reproduce(ref, into, here, tolerance, tell)
    kept = app.work().keep_rebuild(found, me())
    if as_json:
        emit({"id": kept["id"], **found})
    else:
        _show(found, into)
    ctx.exit(_CODES[found["level"]])


def _show(found: dict[str, Any], into: Path | None) -> None:
    click.echo(f"{found['ref']}: {found['level']}, in {found['seconds']:.1f} s.")
    if found["said"]:
        click.echo(f"  {found['cause']}: {found['said']}", err=True)
    if found["level"] in ("different", "within tolerance"):
        click.echo()
        table(["metric", "recorded", "now"], [[name, then, now] for name, (then, now) in found["metrics"].items()])
    if found["differences"]:
        click.echo("\nNot as it was:")
        for line in found["differences"]:
            click.echo(f"  {line}")
    if found["digest"]:
        click.echo()
        fields([("digest", found["digest"]), ("environment", found["environment"])])
    if into is not None:
        click.echo(f"\nIt lies in {into}: code, environment, .sampan/blobs.")
