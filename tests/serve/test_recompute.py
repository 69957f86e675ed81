"""A prediction made once more: the same bytes of the same bundle say the same, unless a rule reads what changes."""

import json
import time
from pathlib import Path

import msgspec
import pytest
import uvloop
from serving_shop import body, record, told

from sampan.base.digests import digest_value
from sampan.base.errors import Damaged, NotFound, Refused
from sampan.serve.recompute import recompute

RULES = """
from pathlib import Path
from sampan import Action, decision

@decision(model="reorder", entity="customer_id", default="wait")
def reserve(prediction, context, likely: float = 0.5):
    FILE = Path("{file}")
    said = {7: "a number", "8": "a text", None: "nobody"}.get(context["customer_id"])
    if said:
        return Action("reserve", rule=said)
    if context.get("crash"):
        raise RuntimeError("no rule")
    if context.get("note"):
        return Action("wait", rule=FILE.read_text())
    if context.get("die") and FILE.read_text() == "now":
        import os
        os._exit(9)
    return Action("reserve" if prediction >= likely else "wait", rule=f"likely {likely}")
"""


def ask(shop, *records):
    async def asked():
        async with shop.serving("reorder") as serving:
            return await serving.predict("reorder", body(*records))

    answer = uvloop.run(asked())
    assert answer.status == 200
    ids = [one["id"] for one in told(answer)["predictions"]]
    events = {event.id: event for event in shop.predictions()}
    return [events[id] for id in ids]


def again(shop, event):
    return recompute(event, shop.endpoints, shop.blobs, shop.root / ".sampan" / "tmp")


@pytest.fixture
def file(shop) -> Path:
    """What a rule reads although it should not."""
    path = shop.root / "note.txt"
    path.write_text("then")
    (shop.root / "decisions.py").write_text(RULES.replace("{file}", str(path)))
    shop.deploy(reason="other rules")
    return path


@pytest.mark.slow
def test_it_says_the_same_under_the_rules_and_thresholds_that_it_was_made_with(shop, file):
    events = ask(shop, record(), record(orders=-2), record(customer_id="17850"))
    (shop.root / "decisions.py").write_text("raise RuntimeError('other rules by now')")
    file.unlink()
    for event in events:
        found = again(shop, event)
        assert (found.differs, found.error, found.now) == ([], "", found.then)
        data = json.loads(event.data)
        assert found.then.rule == data["rule"] == "likely 0.5"
        assert found.then.digest == digest_value({name: data[name] for name in ("action", "prediction", "rule")})


@pytest.mark.slow
def test_who_it_was_about_is_tried_as_text_and_as_a_number(shop, file):
    events = ask(shop, *(record(customer_id=one) for one in (7, "7", "007", "8", None)))
    found = [again(shop, one) for one in events]
    assert [one.now.rule for one in found] == ["a number", "likely 0.5", "likely 0.5", "a text", "nobody"]
    assert [one.differs for one in found] == [[]] * 5


def test_a_rule_that_reads_what_changes_is_found_out(shop, file):
    (event,) = ask(shop, record(note=True))
    assert again(shop, event).differs == []
    file.write_text("now")
    found = again(shop, event)
    assert (found.differs, found.then.rule, found.now.rule) == (["rule"], "then", "now")
    assert found.then.digest != found.now.digest


def test_a_prediction_that_was_another_is_said_to_differ(shop, file):
    (event,) = ask(shop, record())
    data = json.loads(event.data)
    data["prediction"] += 1e-12
    found = again(shop, msgspec.structs.replace(event, data=json.dumps(data).encode()))
    assert found.differs == ["prediction"]


def test_the_default_of_a_rule_that_fails_is_the_same_default(shop, file):
    (event,) = ask(shop, record(crash=True))
    found = again(shop, event)
    assert (found.differs, found.now.action) == ([], "wait")
    assert "no rule" in found.error


def test_rules_that_end_their_process_end_no_other(shop, file):
    (event,) = ask(shop, record(die=True))
    assert again(shop, event).differs == []
    file.write_text("now")
    began = time.monotonic()
    with pytest.raises(Damaged, match="the process ended with 9"):
        again(shop, event)
    assert time.monotonic() - began < 60


def test_only_what_an_endpoint_served_is_loaded(shop, file):
    """An event may name any bytes of the store, and who may send events may not run code."""
    (event,) = ask(shop, record())
    data = json.loads(event.data)
    hostile = shop.endpoints.bundle(data["bundle"])
    source = shop.blobs.put(f"open({str(shop.root / 'owned')!r}, 'w')".encode())
    planted = msgspec.structs.replace(hostile, sources={"decisions.py": source})
    for digest in (shop.blobs.put(planted.encode()), "", "../../etc/passwd", "0" * 64):
        forged = msgspec.structs.replace(event, data=json.dumps({**data, "bundle": digest}).encode())
        with pytest.raises(Refused, match="no endpoint has ever served"):
            again(shop, forged)
        with pytest.raises(NotFound):
            shop.endpoints.once_served(digest)
    assert not (shop.root / "owned").exists()
