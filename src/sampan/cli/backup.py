"""``sampan backup`` and ``sampan restore``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sampan.base.clock import stamp
from sampan.base.errors import No, Usage
from sampan.cli.output import emit, json_option

if TYPE_CHECKING:
    from sampan.app import App


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--without-keys", is_flag=True, help="Leave subjects' keys out: personal values cannot be read then.")
@json_option
@click.pass_obj
def backup(app: "App", folder: Path, without_keys: bool, as_json: bool) -> None:
    """Copy the workspace with all its data while the hub goes on.

    FOLDER is empty, or holds the backup before: then only what is new is copied. Every event that was acknowledged
    before it began is in it. Keep it as secret as the workspace. Exits with 1 if something was missing.
    """
    if app.remote:
        raise Usage("Back up", "the data lie with the hub of SAMPAN_URL", "Run this in the workspace itself.")
    made = app.backup(folder, not without_keys)
    if as_json:
        emit(made)
    else:
        click.echo(
            f"{made['files']:,} files, {made['bytes']:,} bytes in {made['folder']}; {made['copied']:,} of them new,"
            f" {made['copied_bytes']:,} bytes.\n  The log goes to {made['position'] or '0'}, root {made['root'][:16]}."
        )
        if not made["keys"]:
            click.echo("  Without keys of subjects: what is personal cannot be read from it.")
        for name, why in made["missing"].items():
            click.echo(f"{name[:16]} was missing: {why}", err=True)
    if made["missing"]:
        raise click.exceptions.Exit(No.exit_code)


@click.command()
@click.argument("backup", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def restore(app: "App", backup: Path, folder: Path, as_json: bool) -> None:
    """Make a workspace of a backup, in an empty folder.

    Every digest is checked before anything is written. Killed in between, the same command goes on.
    """
    made = app.restore(backup, folder)
    if as_json:
        emit(made)
        return
    click.echo(
        f"{made['files']:,} files, {made['bytes']:,} bytes as of {stamp(made['made'])} in {made['folder']}.\n"
        f"  The log goes to {made['position'] or '0'}, root {made['root'][:16]}. `sampan log verify` reads all of it."
    )
    for one in made["published"]:
        click.echo(f"  Published before, and not now: `sampan table publish {one}`.")
