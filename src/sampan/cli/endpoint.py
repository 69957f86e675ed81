"""``sampan endpoint``: where predictions are asked for."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from sampan.base.clock import stamp
from sampan.base.errors import NotFound, Usage
from sampan.cli.output import as_of_option, emit, fields, json_option, table

if TYPE_CHECKING:
    from sampan.app import App

_PLAIN: Final = {"figures": "no"}


def bundled(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say, beside the model, what a bundle is made of and whether it is tried."""
    for option in (
        click.option(
            "--without-golden", is_flag=True, help="Whatever its golden requests are answered; needs --reason."
        ),
        click.option("--set", "sets", multiple=True, metavar="THRESHOLD=VALUE", help="Change a threshold of the rule."),
        click.option(
            "--decision",
            default="",
            help="Which rule of decisions.py, where several are declared for the model; none: no rule.",
        ),
    ):
        command = option(command)
    return command


@click.group()
def endpoint() -> None:
    """Where predictions are asked for: POST /predict/NAME."""


@endpoint.command()
@click.argument("name")
@click.option("--model", default="", metavar="MODEL[@N]", help="What to serve; the newest version of NAME otherwise.")
@bundled
@click.option("--reason", default="", help="Why; it stays in the endpoint's history.")
@json_option
@click.pass_obj
def deploy(
    app: "App",
    name: str,
    model: str,
    decision: str,
    sets: tuple[str, ...],
    without_golden: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Serve a version behind the workspace's rules.

    Model, rules and thresholds are switched as one, without a failed request; what was served before stays in the
    history, and `sampan rollback` goes back to it. First the process that will serve is asked the version's golden
    requests: if it answers one otherwise than in training, nothing is switched (exit code 1).
    """
    from sampan.cli.run import me

    thresholds = dict(threshold(text) for text in sets)
    made = app.work().deploy(name, model, decision, thresholds, reason, me(), without_golden)
    if as_json:
        emit(made)
        return
    rule = f" behind {made['decision']}" if made["decision"] else ""
    click.echo(f"{name} serves {made['version']}{rule}, bundle {made['bundle'][:12]}.")
    if made.get("golden"):
        click.echo(f"  {made['golden'][0].upper()}{made['golden'][1:]}.")
    if address := made.get("address"):
        click.echo(f"  Asked at {address}/predict/{name}, or through the hub.")
    if warning := made.get("warning"):
        click.echo(f"  Beware: {warning}.", err=True)
    if app.hub() is None:
        click.echo("  No hub is up; `sampan up` begins to answer.")


def threshold(text: str) -> tuple[str, object]:
    """Read ``--set``. Raises Usage."""
    import json

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Usage("Read --set", f"{text!r} is not THRESHOLD=VALUE", "For instance: --set likely=0.6")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value


def _tensor(told: dict[str, Any], name: str) -> str:
    tensor = told["tensors"][name]
    return f"{tensor['datatype']} {list(tensor['shape'])}"


@endpoint.command()
@click.argument("name")
@click.argument("source", metavar="FILE|URL")
@click.option("--format", default="", help="Of a file: onnx, lightgbm, xgboost or skops; else by its name.")
@click.option(
    "--kind",
    default="",
    help="binary, multiclass, regression, ranking (of ONNX tensor, text), where the file does not say it; of a URL.",
)
@click.option(
    "--features",
    default="",
    metavar="NAME[:TYPE],…",
    help="What it takes, in its order, where the file does not say it. Types: number, integer, boolean, text; "
    "tensor or bytes for an input of an ONNX model that is sent whole.",
)
@click.option("--classes", default="", metavar="LABEL,…", help="A classifier's labels, in its order.")
@click.option("--form", default="", help="Of a URL, how it is called: predict, invocations or v2.")
@click.option("--read", default="", metavar="FIELD", help="The field, or the output, of its answer that is read.")
@click.option(
    "--timeout", default=2_000, show_default=True, metavar="MS", help="Milliseconds that a URL has to answer."
)
@click.option("--token-env", default="", metavar="VARIABLE", help="The variable with the URL's bearer token.")
@click.option("--fallback", default="", metavar="JSON", help="What is predicted where the URL does not answer.")
@click.option("--example", default="", metavar="JSON", help="A record that the URL is asked once before it is adopted.")
@click.option("--model", default="", help="The model's name, if it is not NAME.")
@click.option("--register-only", is_flag=True, help="Serve nothing yet: `sampan rollout start` can lead it.")
@click.option("--set", "sets", multiple=True, metavar="THRESHOLD=VALUE", help="Change a threshold of the rule.")
@click.option("--decision", default="", help="Which rule of decisions.py, where several are declared for the model.")
@click.option("--reason", default="", help="Why; it stays in the endpoint's history.")
@json_option
@click.pass_obj
def adopt(
    app: "App", /, name: str, source: str, sets: tuple[str, ...], timeout: int, as_json: bool, **said: Any
) -> None:
    """Serve a model's file or a live service that Sampan did not make.

    It becomes the champion of NAME, before any contract, table, flow or rule exists; candidates shadow and canary
    against it. A file is kept as it is and registered as a version that no run made. A service is called by the
    endpoint's process; in private networks only where the setting private_services names it. Exit code 1: a pickle,
    or an address that must not be called; 2: it cannot be read, or something is not declared; 3: the service is not
    there.
    """
    from sampan.cli.run import me

    thresholds = dict(threshold(text) for text in sets)
    asked = {**said, "source": source, "timeout_ms": timeout, "thresholds": thresholds}
    asked |= {"fallback": _json("--fallback", said["fallback"]), "example": _json("--example", said["example"])}
    if not source.startswith(("http://", "https://")):
        asked |= _file(app, source)
    made = app.work().adopt(name, asked, me())
    if as_json:
        emit(made)
        return
    told = made["adopted"]
    click.echo(f"{told['ref']} is {told['kind']}, {told['format']}, digest {told['digest'][:12]}; no run made it.")
    takes = [f"{one} ({_tensor(told, one)})" if one in told["tensors"] else one for one in told["inputs"]]
    click.echo(f"  It takes {', '.join(takes) or 'whatever fields a record has'}.")
    if told["example"] is not None:
        click.echo(f"  To the example it says {told['example']}.")
    if said["register_only"]:
        click.echo(f"  Nothing serves it; `sampan rollout start {name} --model {told['ref']}` leads it.")
        return
    click.echo(f"{name} serves {made['version']}{' behind ' + made['decision'] if made['decision'] else ''}.")
    if app.hub() is None:
        click.echo("  No hub is up; `sampan up` begins to answer.")


def _json(option: str, text: str) -> Any:
    import json

    try:
        return json.loads(text) if text else None
    except ValueError as error:
        raise Usage(f"Read {option}", f"{text[:80]!r} is not JSON: {error}", "For instance 0.5") from None


def _file(app: "App", source: str) -> dict[str, Any]:
    """The bytes of a file; those of a large one are kept at once where the workspace lies here."""
    from pathlib import Path

    attempted = f"Adopt {source[:100]}"
    path = Path(source)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Usage(attempted, f"it cannot be read: {error.strerror or error}", "Name the file of a model.") from None
    if app.remote or app.hub() is None:
        return {"source": path.name, "data": data}
    return {"source": path.name, "digest": app.blobs.put(data)}


@endpoint.command("list")
@as_of_option
@json_option
@click.pass_obj
def list_(app: "App", as_of: str, as_json: bool) -> None:
    """List endpoints with what they serve."""
    found = app.view("/endpoints", {"as-of": as_of, **({} if as_json else _PLAIN)}, live=True)
    if as_json:
        emit(found)
        return
    table(
        ["endpoint", "state", "version", "rule", "thresholds", "since", "by"],
        [
            [e["name"], e["state"], e["version"], e["decision"], e["thresholds"], stamp(e["created"]), e["actor"]]
            for e in found["endpoints"]
        ],
        empty="Nothing is served yet. `sampan endpoint deploy NAME --model MODEL` serves a version.",
    )


def _why(row: dict[str, str]) -> str:
    back = f"back from bundle {row['back_from'][:12]}" if row.get("back_from") else ""
    unasked = "golden requests were not asked"
    parts = (back, unasked if row.get("golden") == unasked else "", row["reason"])
    return ": ".join(part for part in parts if part)


@endpoint.command()
@click.argument("name")
@click.option("--address", is_flag=True, help="Only the address at which its process is asked directly.")
@as_of_option
@json_option
@click.pass_obj
def show(app: "App", name: str, address: bool, as_of: str, as_json: bool) -> None:
    """Show one endpoint: rule, thresholds, values, history."""
    query = {"as-of": as_of, **(_PLAIN if address else {})}
    all_of_them = app.view("/endpoints", query, live=True)["endpoints"]
    found = next((one for one in all_of_them if one["name"] == name), None)
    if found is None:
        known = ", ".join(one["name"] for one in all_of_them) or "none yet"
        raise NotFound(f"Show the endpoint {name!r}", "there is none of that name", f"Endpoints: {known}.")
    if address:
        if not found["address"]:
            advice = "Is the hub up? Else it is asked through the hub only: see `sampan endpoint show`."
            raise NotFound(f"Find the address of {name!r}", "it has none of its own now", advice)
        if as_json:
            emit({"address": found["address"]})
        else:
            click.echo(found["address"])
        return
    if as_json:
        emit(found)
        return
    names = (
        "name",
        "state",
        "address",
        "version",
        "bundle",
        "decision",
        "entity",
        "thresholds",
        "fallback",
        "signature",
        "currency",
        "values",
        "reason",
    )
    fields((key, found[key]) for key in names)
    if found["decided"]["unnamed"]["count"]:
        fields([("outcomes", found["decided"]["unnamed"]["says"])])
    if (unmatched := found["decided"]["unmatched"]) or found["decided"]["unknown"]:
        unknown = found["decided"]["unknown"]
        fields(
            [
                (
                    "unmatched",
                    f"{unmatched:,} outcomes by key; {unknown:,} by an id that is not in the log, of no endpoint",
                )
            ]
        )
    click.echo()
    table(
        ["since", "version", "bundle", "by", "reason"],
        [[stamp(h["created"]), h["spec"]["version"], h["bundle"][:12], h["actor"], _why(h)] for h in found["history"]],
    )


@endpoint.command()
@click.argument("name")
@click.option("--by", default="action", show_default=True, help="action, rule, version, month, or a field of records.")
@as_of_option
@json_option
@click.pass_obj
def value(app: "App", name: str, by: str, as_of: str, as_json: bool) -> None:
    """Show what an endpoint's decisions are worth per 1,000, by slice, with 95 % intervals, costs, and its cap."""
    from urllib.parse import quote

    found = app.view(f"/endpoints/{quote(name, safe='')}/value", {"by": by, "as-of": as_of})
    if as_json:
        emit(found)
        return
    currency = found["currency"]
    rows = []
    for one in [*found["slices"], found["whole"]]:
        worth, margin = one["value"], one["margin"]
        interval = "" if worth is None or margin is None else f"{worth - margin:z,.2f} to {worth + margin:z,.2f}"
        money = "" if worth is None else f"{worth:z,.2f}"
        net = "" if one["net"] is None else f"{one['net']:z,.2f}"
        row = [one["name"] or "none", one["decisions"], one["known"], f"{one['total']:z,.2f}", money, interval, net]
        rows.append(row)
    names = [by, "decisions", "known", f"earned {currency}".strip(), "per 1,000", "95 %", "after costs"]
    priced = any(row[-1] for row in rows)
    table(names if priced else names[:-1], rows if priced else [row[:-1] for row in rows])
    if found["unnamed"]:
        click.echo(f"{found['unnamed']}.")
    for one in found["costs"]["lines"]:
        what = f"making {one['version']}" if one["version"] else "serving"
        odd = "" if one["currency"] == found["costs"]["currency"] else "; in another currency, so not subtracted"
        click.echo(f"{what}: {one['amount']:z,.2f} {one['currency']} ({one['how']}){odd}")
    if (cap := found["cap"]) is not None:
        done = "people are asked" if cap["over"] == "review" else "the safe default is taken"
        said = f"{cap['today']:,.2f} of {cap['amount']:,.2f} {currency} a day are at risk today".strip()
        click.echo(f"\n{said}; {cap['held']:,} held back. Beyond it {done}.")
