"""``sampan model case``: what must not happen again becomes a test of every version to come."""

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from sampan.base.clock import stamp
from sampan.base.errors import NotFound, Usage
from sampan.cli.output import emit, json_option

if TYPE_CHECKING:
    from sampan.app import App


@click.command()
@click.argument("prediction", required=False, default="")
@click.option(
    "--expect",
    multiple=True,
    required=True,
    metavar="WHAT",
    help="'at least 0.6', 'at most 0.2', 'equals 3', 'class yes', 'at least 0.9 for large'. May be given again.",
)
@click.option("--reason", required=True, help="Why this must hold; it stays with the case.")
@click.option("--model", default="", metavar="MODEL", help="Whose suite, where features are given by hand.")
@click.option("--features", default="", metavar="JSON", help="Features given by hand, in the place of a prediction.")
@click.option("--name", default="", help="What the case is called in reports.")
@json_option
@click.pass_obj
def case(
    app: "App",
    prediction: str,
    expect: tuple[str, ...],
    reason: str,
    model: str,
    features: str,
    name: str,
    as_json: bool,
) -> None:
    """Add a case to a model's suite: a recorded PREDICTION, or features by hand.

    Takes what the model was told from the log, and appends it to suites/MODEL.toml with what should have come of it.
    The rest of the file stays as it is. `sampan model test MODEL` asks it of any version from then on.
    """
    from sampan.cli.run import me
    from sampan.models.cases import add_case, expected

    if bool(prediction) == bool(features):
        advice = "`sampan model case PREDICTION`, or --model MODEL --features '{…}'."
        raise Usage("Add a case", "name a prediction or give features, one of them", advice)
    made = _recorded(app, prediction, model) if prediction else _by_hand(app, model, features)
    whose = made.pop("model")
    facts: dict[str, Any] = {
        "name": name or made.pop("name", ""),
        "reason": reason,
        **expected(expect),
        "source": made["source"],
        "by": me(),
        "when": stamp(app.clock.micros()),
        "features": made["features"],
    }
    path = add_case(app.folder.root, whose, facts)
    if as_json:
        emit({"model": whose, "path": str(path), "case": facts})
        return
    click.echo(f"suites/{path.name} holds it now. `sampan model test {whose}` asks it.")


def _recorded(app: "App", id: str, model: str) -> dict[str, Any]:
    found = app.view(f"/predictions/{quote(id, safe='')}")
    attempted = f"Make a case of prediction {id[:100]}"
    if not found["features"]:
        raise NotFound(attempted, "no features were kept with it", "Give them by hand: --model MODEL --features '{…}'.")
    whose = found["version"].partition("@")[0]
    if model and model != whose:
        raise Usage(attempted, f"{found['version']} made it, not {model}", "Leave --model out.")
    said = found["prediction"]
    shown = f"{said:.6g}" if isinstance(said, float) else said
    source = f"prediction {found['id']} of endpoint {found['endpoint']}: {found['version']} said {shown}"
    outcome = "" if found["outcome"] is None else f", it was {found['outcome']}"
    return {
        "model": whose,
        "name": f"prediction {found['id']}",
        "source": source + outcome,
        "features": found["features"],
    }


def _by_hand(app: "App", model: str, text: str) -> dict[str, Any]:
    from sampan.models.cases import check_features, features_of

    attempted = "Make a case of features"
    if not model:
        raise Usage(attempted, "nothing says which model they are for", "--model MODEL")
    features = features_of(attempted, text)
    lines = [one for one in app.view("/models", {"model": model})["models"] if one["name"] == model]
    if not lines or not lines[0]["versions"]:
        raise NotFound(attempted, f"there is no model {model!r} with a version", "`sampan model list` shows those.")
    versions = lines[0]["versions"]
    ref = next((one for one in versions if one["on_main"]), versions[0])["ref"]
    page = app.view(f"/models/{quote(model, safe='')}/{ref.rpartition('@')[2]}")
    check_features(attempted, features, list(page["signature"]["inputs"]))
    return {"model": model, "source": "by hand", "features": features}
