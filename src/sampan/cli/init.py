"""``sampan init``: a new workspace from a template."""

import json
import shutil
import subprocess
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sampan.base.errors import Conflict, Usage
from sampan.base.ids import is_name

if TYPE_CHECKING:
    from sampan.app import App

TEMPLATES: Final = ("retail", "empty")
_SKIPPED: Final = ("__pycache__", ".sampan", ".pytest_cache")
_IGNORE: Final = (
    "# All data lies in .sampan/: it is derived from events, and it is large.\n.sampan/\n.venv/\n__pycache__/\n"
)
_PATIENCE: Final = 60


@click.command()
@click.argument("name")
@click.option(
    "--template", type=click.Choice(TEMPLATES), default="empty", show_default=True, help="What to begin with."
)
@click.option("--lock/--no-lock", default=True, help="Pin the environment in uv.lock, if uv is there.")
@click.pass_obj
def init(app: "App", name: str, template: str, lock: bool) -> None:
    """Make a new workspace from a template.

    NAME is a folder to make. `retail` is the shop that the tutorial tells of, with a year of real orders; `empty` has
    one contract, one table and one check to change.
    """
    folder = (app.start or Path.cwd()) / name
    title = folder.name.lower().replace(" ", "-")
    attempted = f"Make the workspace {folder}"
    if not is_name(title):
        raise Usage(attempted, f"{folder.name!r} is no name", "Use letters, digits, _ and -; begin with a letter.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(attempted, "there is something in it", "Choose another name, or empty it.")
    with as_file(files("sampan") / "examples" / template) as source:
        if not source.is_dir():
            raise Usage(attempted, f"this installation has no template {template!r}", "Install Sampan anew.")
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_SKIPPED))
    (folder / ".gitignore").write_text(_IGNORE, "utf-8")
    (folder / "pyproject.toml").write_text(_project(title, template), "utf-8")
    said = [_lock(folder) if lock else "uv.lock was not asked for; `uv lock` writes it.", _git(folder)]
    click.echo(f"{folder} is a workspace.")
    for line in filter(None, said):
        click.echo(f"  {line}")
    click.echo(f"\nNext:\n  cd {name}\n  sampan up            # in one terminal: takes events, shows pages")
    click.echo("  sampan plan          # in another: what would run, and why")


def _project(title: str, template: str) -> str:
    from sampan import __version__

    extras = "[demo]" if template == "retail" else ""
    source = _source_tree()
    version = "" if source else f">={__version__}"
    return (
        f'[project]\nname = "{title}"\nversion = "0.1.0"\nrequires-python = ">=3.11"\n'
        f'dependencies = ["sampan{extras}{version}"]\n\n[dependency-groups]\ndev = ["pytest>=8"]\n\n'
        "[tool.uv]\npackage = false\n" + source
    )


def _source_tree() -> str:
    """Where this Sampan comes from, if it was installed from a folder rather than from a package index."""
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import unquote, urlsplit

    try:
        note = json.loads(distribution("sampan").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return ""
    url = urlsplit(note.get("url", ""))
    if url.scheme != "file" or "dir_info" not in note:
        return ""
    editable = ", editable = true" if note["dir_info"].get("editable") else ""
    return f"\n[tool.uv.sources]\nsampan = {{ path = {json.dumps(unquote(url.path))}{editable} }}\n"


def _lock(folder: Path) -> str:
    """Write uv.lock; whatever stands in the way becomes a sentence, never a failure."""
    later = "`uv lock` in the folder writes uv.lock, which pins the environment."
    uv = shutil.which("uv")
    if uv is None:
        return f"uv is not installed. {later}"
    try:
        done = subprocess.run([uv, "lock", "--quiet"], cwd=folder, capture_output=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return f"uv took too long. {later}"
    if done.returncode or not (folder / "uv.lock").exists():
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        return (
            f"uv could not pin the environment ({lines[-1].strip()[:160] if lines else 'it did not say why'}). {later}"
        )
    return ""


def _git(folder: Path) -> str:
    """Make a repository, unless the folder lies in one."""
    git = shutil.which("git")
    if git is None:
        return "git is not installed; runs will record no commit."
    inside = subprocess.run([git, "rev-parse", "--is-inside-work-tree"], cwd=folder, capture_output=True, check=False)
    if inside.returncode == 0:
        return ""
    made = subprocess.run([git, "init", "--quiet"], cwd=folder, capture_output=True, check=False)
    return "" if made.returncode == 0 else "git could not make a repository here; runs will record no commit."
