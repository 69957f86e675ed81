"""Where a model does not answer, what its decision declares does: in every face, in the event, and said."""

import asyncio
import json

import pytest
from serving_shop import FEATURES, RULES, body, record

from sampan.base.errors import BadWorkspace, SampanError
from sampan.models.version import Signature
from sampan.serve.decisions import Action, decision
from sampan.serve.fallback import output_of, substitute
from sampan.serve.previous import previous

DECLARED = "values="
CONSTANT = RULES.replace(DECLARED, "fallback=0.25, values=")
FUNCTION = RULES.replace(
    "@decision", "def base(record):\n    return min(record['orders'] / 10, 1)\n\n@decision"
).replace(DECLARED, "fallback=base, values=")
BEFORE = RULES.replace("import Action", "import PREVIOUS, Action").replace(DECLARED, "fallback=PREVIOUS, values=")


def damage(shop, version):
    """A file of a version's, changed by one byte."""
    files = shop.models.get(version).files
    path = shop.blobs.path(next(iter(files.values())))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(data))


def told(answer):
    return json.loads(answer.body)


def events(shop):
    return {event.id: json.loads(event.data) for event in shop.predictions()}


def deploy(shop, rules, **more):
    (shop.root / "decisions.py").write_text(rules)
    return shop.deploy(**more)


def asked(shop, *records, name="p"):
    """What an endpoint answers after its process was started anew, and how it says that it is."""

    async def ask():
        async with shop.serving("reorder") as serving:
            answers = [await serving.predict("reorder", body(one, ids=[f"{name}{n}"])) for n, one in enumerate(records)]
            return answers, serving.status()[0]

    return asyncio.run(ask())


def test_what_was_in_force_before_answers_only_where_it_fits_and_else_it_is_said_why_it_does_not(shop):
    assert previous(shop.endpoints, "reorder") == (None, ""), "nothing is declared"
    before = shop.endpoints.get("reorder").bundle
    deploy(shop, BEFORE)
    assert previous(shop.endpoints, "reorder") == (shop.endpoints.bundle(before), "")
    shop.deploy(name="fresh")
    assert previous(shop.endpoints, "fresh") == (None, "nothing was in force before")
    shop.deploy(name="plain", decision="none")
    assert previous(shop.endpoints, "plain") == (None, "")
    shop.deploy(name="plain")
    assert previous(shop.endpoints, "plain") == (None, "reorder@1 was in force without rules")


def test_a_constant_answers_where_the_model_does_not_load(shop):
    deploy(shop, CONSTANT)
    (answer,), state = asked(shop, record())
    assert "fallback" not in told(answer)["predictions"][0] and state.silent == ""
    damage(shop, "reorder@1")
    (answer, odd), state = asked(shop, record(), record(orders="many"), name="q")
    (one,) = told(answer)["predictions"]
    assert (answer.status, one["prediction"], one["action"], one["version"]) == (200, 0.25, "wait", "reorder@1")
    assert "not as it was written" in one["fallback"] or "digest" in one["fallback"]
    assert odd.status == 400, "what does not fit is still refused"
    assert state.state == "serving" and one["fallback"] == state.silent
    data = events(shop)["q0"]
    assert (data["prediction"], data["action"], data["fallback"]) == (0.25, "wait", one["fallback"])


def test_a_function_makes_a_prediction_of_the_record_and_the_rules_judge_it(shop):
    deploy(shop, FUNCTION)
    damage(shop, "reorder@1")
    answers, _ = asked(shop, record(orders=2), record(orders=9))
    found = [told(one)["predictions"][0] for one in answers]
    assert [(one["prediction"], one["action"]) for one in found] == [(0.2, "wait"), (0.9, "reserve")]
    (answer,), _ = asked(shop, {**record(), "orders": None}, name="q")
    assert answer.status == 500 and "fallback" not in answer.body.decode(), "a function that raises answers nothing"


@pytest.mark.slow
def test_what_was_in_force_before_answers_with_its_own_rules(shop, fitted):
    words = shop.root / "shop" / "words.py"
    words.write_text('LIKELY = "likely, in the words of old"\n')
    deploy(shop, RULES)
    words.write_text('LIKELY = "likely, in new words"\n')
    shop.register(fitted(9))
    deploy(shop, BEFORE, ref="reorder@2")
    (answer,), state = asked(shop, record())
    assert (told(answer)["predictions"][0]["version"], state.silent) == ("reorder@2", "")
    old = shop.endpoints.history("reorder")[1]
    damage(shop, "reorder@2")
    (answer,), state = asked(shop, record(), name="q")
    (one,) = told(answer)["predictions"]
    assert (one["version"], one["bundle"], one["rule"]) == ("reorder@1", old.bundle, "likely, in the words of old")
    assert one["fallback"] == state.silent != ""
    data = events(shop)["q0"]
    assert [data[name] for name in ("version", "bundle", "fallback")] == ["reorder@1", old.bundle, state.silent]


@pytest.mark.slow
def test_rules_that_import_late_are_not_mixed_with_others(shop, fitted):
    deploy(shop, RULES.replace("if context.get", "from shop import words\n    if context.get", 1))
    shop.register(fitted(9))
    deploy(shop, BEFORE, ref="reorder@2")
    damage(shop, "reorder@2")
    (answer,), _ = asked(shop, record())
    assert answer.status == 500
    said = (shop.folder.data / "tmp" / "serve-reorder.log").read_text()
    assert "decisions.py:8 imports within a function" in said


def test_without_a_declaration_a_model_that_does_not_load_answers_nobody(shop):
    damage(shop, "reorder@1")

    async def ask():
        async with shop.serving() as serving:
            for _ in range(200):
                state = serving.status()[0]
                if state.state == "down":
                    return state, await serving.predict("reorder", body(record()))
                await asyncio.sleep(0.05)
            raise AssertionError(state)

    state, answer = asyncio.run(ask())
    assert answer.status == 503 and state.silent == "" and state.error


@pytest.mark.parametrize("declared", [7, "likely", [0.1, 0.2, 0.7], float("nan"), {1, 2}, {"ture": 0.9}])
def test_a_constant_that_the_model_could_never_give_is_refused_before_anything_is_served(shop, declared):
    before = shop.endpoints.get("reorder")
    with pytest.raises((BadWorkspace, SampanError)) as raised:
        deploy(shop, RULES.replace(DECLARED, f"fallback={declared!r}, values=".replace("nan", "float('nan')")))
    assert "fallback" in str(raised.value)
    assert shop.endpoints.get("reorder") == before


@pytest.mark.parametrize(
    ("given", "signature", "wanted"),
    [
        (0.2, Signature(inputs={}, output="probability"), 0.2),
        ({"a": 0.2, "b": 0.8}, Signature(inputs={}, output="probabilities", classes=("a", "b")), [0.2, 0.8]),
        ({"B": 1}, Signature(inputs={}, output="probabilities", classes=("a", "b")), [0.0, 1.0]),
        (-3, Signature(inputs={}, output="number"), -3.0),
    ],
)
def test_predictions_that_are_written_down(given, signature, wanted):
    rules = decision(model="m", fallback=given)(lambda prediction, context: Action("x"))
    made = substitute(rules, signature)
    assert made is not None and made({}) == wanted == output_of(given, signature)
    assert FEATURES
