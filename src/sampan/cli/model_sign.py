"""``sampan model key``, ``sign`` and ``verify``: who vouches for a version. The private key stays in this process."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click

from sampan.base.errors import Conflict, Damaged, NotFound, Usage
from sampan.cli.output import emit, json_option

if TYPE_CHECKING:
    from sampan.app import App

_ODD: Final = re.compile(r"[^A-Za-z0-9_-]+")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def key(app: "App", file: Path, as_json: bool) -> None:
    """Make a key that signs versions, in a new FILE.

    The private key stays in FILE, which only you can read. What is printed is its public key: the operator puts that
    line below [signing] in sampan.toml.
    """
    from sampan.models.signing import new_key

    attempted = f"Make the key {file}"
    pem, public = new_key()
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(pem)
    except FileExistsError:
        raise Conflict(
            attempted, "the file is there already", "Name another one: a key that is lost signs nothing."
        ) from (None)
    except OSError as error:
        raise Usage(attempted, error.strerror or str(error), "Name a file that can be written.") from None
    name = _ODD.sub("-", file.stem).strip("-") or "key"
    if as_json:
        emit({"file": str(file), "name": name, "public": public})
    else:
        click.echo(f'[signing]\n{name} = "{public}"')


@click.command()
@click.argument("ref")
@click.option("--key", "file", required=True, type=click.Path(path_type=Path), help="The private key, in PEM.")
@click.option("--reason", default="", help="Why; it stays with the signature.")
@json_option
@click.pass_obj
def sign(app: "App", ref: str, file: Path, reason: str, as_json: bool) -> None:
    """Sign a version (MODEL@N) with an Ed25519 key of yours.

    What is signed is that this content has this name and number. It is done here: only the signature goes to the hub.
    It counts where sampan.toml names the public key below [signing].
    """
    from sampan.cli.run import me
    from sampan.models import signing

    attempted = f"Sign {ref}"
    found = _version(app, attempted, ref)
    private = _open(attempted, file)
    form = (found["onnx"] or {}).get("digest", "")
    id, made = signing.sign(private, found["model"], found["number"], _content(attempted, found), form)
    asked = {"ref": found["ref"], "key": id, "signature": made, "onnx": form, "reason": reason}
    kept = app.work().keep_signature(asked, me())
    if as_json:
        emit(kept)
    elif kept["name"]:
        click.echo(f"{found['ref']} is signed by {kept['name']} (key {id}).")
    else:
        click.echo(
            f"{found['ref']} is signed with the key {id}, which sampan.toml does not name. It counts once it does:"
        )
        click.echo(f'[signing]\n{_ODD.sub("-", file.stem).strip("-") or "key"} = "{signing.public_line(private)}"')


@click.command()
@click.argument("ref")
@json_option
@click.pass_context
def verify(ctx: click.Context, ref: str, as_json: bool) -> None:
    """Say whether a trusted key has signed a version (MODEL@N), and its files are those that were signed.

    Exits with 1 if not. Where SAMPAN_URL names a hub elsewhere, that hub says it, and its files are not read.
    """
    from sampan.base.errors import No

    app: App = ctx.obj
    found = _version(app, f"Verify {ref}", ref)
    told = found["signing"]
    valid, said = told["valid"], told["said"]
    if valid and not app.remote:
        odd = [name for name, digest in found["files"].items() if not _whole(app, digest)]
        valid, said = not odd, f"{said}, but its file {odd[0]} is not as it was" if odd else said
    if as_json:
        emit({**told, "ref": found["ref"], "valid": valid, "said": said})
    else:
        click.echo(f"{found['ref']}: {said}.")
    ctx.exit(0 if valid else No.exit_code)


def _whole(app: "App", digest: str) -> bool:
    try:
        app.blobs.get(digest)
    except (Damaged, NotFound):
        return False
    return True


def _version(app: "App", attempted: str, ref: str) -> Any:
    """A version as its page shows it. Raises NotFound, Usage."""
    from sampan.base.ids import whole
    from sampan.cli.model import named

    name, _, number = ref.partition("@")
    if not name or not number:
        raise Usage(attempted, "it names no version", f"Write {name or 'MODEL'}@NUMBER.")
    if whole(number) is None:
        number = str(named(app, name, number))
    return app.view(f"/models/{quote(name, safe='')}/{quote(number, safe='')}", {})


def _content(attempted: str, found: Any) -> str:
    """The digest of what is signed, made here from what is said of the version. Raises Damaged."""
    import msgspec

    from sampan.models.version import Signature, version_digest

    takes = msgspec.convert(found["signature"], Signature)
    made = version_digest(found["kind"], found["format"], found["files"], takes)
    if made != found["digest"]:
        said = f"its record was changed: it comes to {made[:12]}, not {found['digest'][:12]}"
        raise Damaged(attempted, said, "Nothing was signed. Restore a backup.")
    return made


def _open(attempted: str, file: Path) -> Any:
    """The private key of a file; asks for its passphrase, if it has one. Raises Usage."""
    from sampan.models.signing import open_key

    try:
        pem = file.read_bytes()
    except OSError as error:
        advice = "`sampan model key FILE` makes one."
        raise Usage(attempted, f"the key {file} cannot be read: {error.strerror or error}", advice) from None
    made = open_key(attempted, pem)
    return made or open_key(attempted, pem, click.prompt("Passphrase of the key", hide_input=True, err=True))
