"""R10 and R40 through each protocol: values made to break readers. Each event gets a verdict, and nothing is lost.

Everywhere sent = accepted + duplicate + quarantined + refused, nothing is answered with 5xx, and what waits in
quarantine is the bytes that came, shown as text.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from tests.api.conftest import CONTRACTS
from tests.hub.conftest import Hub, make_workspace, sampan
from tests.hub.test_pages import NASTY, read
from tests.robustness.server import the_log

from sampan.log.quarantine import Quarantine

VERDICTS = ("accepted", "duplicate", "quarantined", "refused")
GOOD = {"time": '"2026-01-02T03:04:05Z"', "item": '"tea"', "price": "1.5", "subject": '"ann"'}
DIGITS = "9" * 400


class Value(NamedTuple):
    """A value as it stands in the JSON, where, and what becomes of its event. ``broken``: that is not JSON, or has two
    meanings."""

    field: str
    text: str
    verdict: str = "quarantined"
    broken: bool = False


VALUES = {
    "year 0": Value("time", '"0000-01-01T00:00:00Z"'),
    "year 1": Value("time", '"0001-01-01T00:00:00Z"', "accepted"),
    "before year 1": Value("time", '"0001-01-01T00:00:00+14:00"'),
    "year 9999": Value("time", '"9999-12-31T23:59:59.999999Z"', "accepted"),
    "past year 9999": Value("time", '"9999-12-31T23:59:59-14:00"'),
    "year 275760": Value("time", '"+275760-09-13T00:00:00Z"'),
    "no such day": Value("time", '"2026-02-30T00:00:00Z"'),
    "a time of 400 digits": Value("time", DIGITS),
    "a time of 400 digits in quotes": Value("time", f'"{DIGITS}"'),
    "a time that is NaN": Value("time", "NaN", broken=True),
    "half a surrogate": Value("item", r'"\ud800"', broken=True),
    "the other half": Value("subject", r'"\udfff x"', broken=True),
    "2 ** 200": Value("price", str(2**200), "accepted"),
    "2 ** 200 as text": Value("item", str(2**200)),
    "400 digits": Value("price", DIGITS),
    "400 digits below zero": Value("price", "-" + DIGITS),
    "5,000 digits": Value("price", "9" * 5_000, broken=True),
    "1e400": Value("price", "1e400", broken=True),
    "NaN": Value("price", "NaN", broken=True),
    "Infinity": Value("price", "-Infinity", broken=True),
    "depth 1,000": Value("item", "[" * 1_000 + "]" * 1_000, broken=True),
    "depth 100,000": Value("item", "[" * 100_000 + "]" * 100_000, broken=True),
    "a repeated key": Value("price", '1, "price": 2', broken=True),
    "NUL": Value("item", r'"a\u0000b"', "accepted"),
}
LARGE = {
    "a field of 5 MB": Value("item", f'"{"x" * 5_000_000}"', "accepted"),
    "a subject of 5 MB": Value("subject", f'"{"x" * 5_000_000}"'),
}
#: GA4 counts microseconds since 1970.
MICROS = {
    "a good time": Value("time", "1767322985000000", "accepted"),
    "year 0": Value("time", "-62167219200000000"),
    "year 9999": Value("time", "253402300799999999", "accepted"),
    "year 10000": Value("time", "253402300800000000"),
    "2 ** 63": Value("time", str(2**63)),
    "400 digits of microseconds": Value("time", DIGITS),
    "1e400 microseconds": Value("time", "1e400", broken=True),
    "a time that is NaN": Value("time", "NaN", broken=True),
}


class Protocol:
    """How an event is said and sent."""

    def __init__(self, event: str, path: str, kind: str, around: str) -> None:
        self.event, self.path, self.kind, self.around = event, path, kind, around

    def values(self) -> dict[str, Value]:
        if self.path.startswith("/mp/"):
            return {name: value for name, value in VALUES.items() if value.field != "time"} | MICROS
        return VALUES

    def say(self, id: str = "", /, **holes: str) -> str:
        text = self.event
        for name, value in (GOOD | {"id": f'"{id}"'} | holes).items():
            text = text.replace(f"<{name}>", value)
        return text


DATA = '"data": {"item": <item>, "price": <price>}'
EVENT = '"id": <id>, "type": "item_purchased", "source": "web", "subject": <subject>, "time": <time>'
PROTOCOLS = {
    "plain": Protocol(f"{{{EVENT}, {DATA}}}", "/v1/events", "application/json", "[*]"),
    "cloudevents": Protocol(
        f'{{"specversion": "1.0", {EVENT.replace("web", "cloud")}, {DATA}}}',
        "/v1/events",
        "application/cloudevents-batch+json",
        "[*]",
    ),
    "segment": Protocol(
        '{"type": "track", "event": "Item Purchased", "messageId": <id>, "userId": <subject>, "timestamp": <time>,'
        ' "properties": {"item": <item>, "price": <price>}}',
        "/v1/batch",
        "application/json",
        '{"batch": [*]}',
    ),
    "ga4": Protocol(
        '{"client_id": <id>, "user_id": <subject>, "timestamp_micros": <time>,'
        ' "events": [{"name": "item_purchased", "params": {"item": <item>, "price": <price>}}]}',
        "/mp/collect?measurement_id=G",
        "application/json",
        "*",
    ),
}


class Counted:
    """A hub, and what became of what it was sent."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.sent = 0
        self.before = self.counts()

    def counts(self) -> Counter[str]:
        told = self.hub.json("/v1/log/stats")
        return Counter({name: told[name] for name in VERDICTS})

    def send(self, how: Protocol, *said: str, kind: str | None = None) -> Counter[str]:
        """Send events in one request: the number of each verdict."""
        body = how.around.replace("*", ",".join(said)).encode()
        headers = {"content_type": how.kind if kind is None else kind}
        response, answer = self.hub.ask("POST", how.path, body, **headers)
        assert response.status < 300, (response.status, answer[:300])
        now = self.counts()
        found, self.before = now - self.before, now
        if response.status == 202:
            assert found == Counter(one["verdict"] for one in json.loads(answer)["results"])
        self.sent += found.total()
        return found


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = make_workspace(tmp_path_factory.mktemp("hostile") / "shop")
    (folder / "contracts.py").write_text(CONTRACTS)
    (folder / "tables" / "pages.sql").unlink()
    running = Hub(folder)
    yield running
    assert running.stop() == 0
    done = sampan(folder, "log", "verify")
    assert done.returncode == 0, done.stdout + done.stderr


def held(hub: Hub) -> list[bytes]:
    return [bytes(item.raw) for item in Quarantine(the_log(hub.folder)).items(limit=None)]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_each_value_has_its_verdict_and_takes_no_other_event_with_it(hub: Hub, name: str) -> None:
    how, told = PROTOCOLS[name], Counted(hub)
    time = {} if name != "ga4" else {"time": MICROS["a good time"].text}
    waiting = []
    for what, value in how.values().items():
        around = [how.say(f"{name} {what} {number}", **time) for number in (1, 3)]
        said = how.say(f"{name} {what} 2", **time | {value.field: value.text})
        if name == "ga4":  # one message a request
            assert [told.send(how, one) for one in around] == [Counter(accepted=1)] * 2, what
            assert told.send(how, said) == Counter([value.verdict]), what
        else:
            assert told.send(how, around[0], said, around[1]) == Counter([value.verdict, "accepted", "accepted"]), what
        if value.verdict == "quarantined":
            waiting.append(said.encode())
    assert told.sent == 3 * len(how.values())
    assert not Counter(waiting) - Counter(held(hub)), "what waits is not what came"


def test_a_message_of_ga4_with_one_bad_event_keeps_the_others(hub: Hub) -> None:
    how, told = PROTOCOLS["ga4"], Counted(hub)
    whole = how.say("several", time=MICROS["a good time"].text)
    event = whole[whole.index('{"name"') : -2]
    waiting = []
    for what, value in VALUES.items():
        if value.field in ("item", "price") and value.verdict == "quarantined":
            one = event.replace('"tea"' if value.field == "item" else "1.5", value.text)
            message = whole.replace(event, f"{event}, {one}, {event}").replace("several", what)
            expected = Counter(quarantined=1) if value.broken else Counter(accepted=2, quarantined=1)
            assert told.send(how, message) == expected, what
            waiting.append(message.encode())
    assert set(waiting) <= set(held(hub))


def test_a_batch_that_repeats_its_own_keys_loses_none_of_them(hub: Hub) -> None:
    how, told = PROTOCOLS["segment"], Counted(hub)
    one, two = how.say("first list"), how.say("second list")
    odd = how.say("odd", price='1, "price": 2')
    for body in (f'{{"batch": [{one}], "batch": [{two}]}}', f'{{"batch": [{one}], "batch": [{two}, 7]}}'):
        twice = Protocol("", how.path, how.kind, body)
        assert told.send(twice) == Counter(quarantined=1)
        assert body.encode() in held(hub)
    assert told.send(how, one, odd, two) == Counter(accepted=2, quarantined=1)
    ga4 = PROTOCOLS["ga4"]
    message = ga4.say("twice", time="1", subject='"a", "events": []')
    assert told.send(ga4, message) == Counter(quarantined=1)
    assert message.encode() in held(hub)


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("kind", ["text/xml", "image/png", "multipart/form-data; boundary=x", "a/b; c", ""])
def test_a_wrong_content_type_loses_nothing(hub: Hub, name: str, kind: str) -> None:
    how, told = PROTOCOLS[name], Counted(hub)
    said = how.say(f"{name} as {kind}", **({"time": "1767322985000000"} if name == "ga4" else {}))
    assert told.send(how, said, kind=kind).total() == 1
    assert told.sent == 1


@pytest.mark.parametrize("name", PROTOCOLS)
def test_scripts_in_every_text_are_shown_as_text(hub: Hub, name: str) -> None:
    how, told, script = PROTOCOLS[name], Counted(hub), json.dumps(NASTY)
    time = {"time": MICROS["a good time"].text} if name == "ga4" else {}
    texts = {"id": script[:-1] + f' {name}"', "item": script, "subject": script}
    assert told.send(how, how.say(**time | texts)) == Counter(accepted=1)
    everywhere = how.say(**time | texts | {"id": script, "price": script})
    for plain in ("item_purchased", "Item Purchased", '"web"', '"cloud"'):
        everywhere = everywhere.replace(plain, script if plain[0] == '"' else script[1:-1])
    assert told.send(how, everywhere) == Counter(quarantined=1)
    accepted, waiting = hub.json("/log")["events"][0], hub.json("/quarantine")["items"][0]
    for path in ("/log", "/quarantine", f"/log/{accepted['position']}", f"/quarantine/{waiting['position']}"):
        page = read(hub, path)
        assert page.tags.count("script") == read(hub, "/settings").tags.count("script"), path
        assert "<script>" in " ".join(page.text), path


def test_pages_and_tables_of_it_all_can_be_looked_at(hub: Hub) -> None:
    """Whatever was sent before is read again."""
    log = the_log(hub.folder)
    events = list(log.events(limit=10**6))
    waiting = list(Quarantine(log).items(limit=None))
    places = [f"/log/{event.position}" for event in events if b"year" in event.raw and b' 2"' in event.raw]
    places += [f"/quarantine/{item.position}" for item in waiting[::4]]
    assert len(places) > 30
    for path in ("/log", "/log?limit=500", "/quarantine", "/contracts/item_purchased", "/", *places):
        response, body = hub.ask("GET", path, accept="text/html")
        assert response.status == 200 and len(body) < 2_000_000, (path, response.status, len(body), body[:300])
    query = json.dumps({"query": "SELECT count(*) AS n, min(_time) AS first, max(_time) AS last FROM item_purchased"})
    response, body = hub.ask("POST", "/v1/sql", query.encode(), content_type="application/json")
    assert response.status == 200, body
    assert json.loads(body)["rows"][0][0] == hub.json("/v1/log/stats")["accepted"] == len(events)


@pytest.mark.slow
def test_five_megabytes_are_taken_and_lists_of_them_stay_small(hub: Hub) -> None:
    """The last: pages read what lies beside them."""
    for name, how in PROTOCOLS.items():
        told = Counted(hub)
        for what, value in LARGE.items():
            time = {"time": MICROS["a good time"].text} if name == "ga4" else {}
            said = how.say(f"{name} {what}", **time | {value.field: value.text})
            assert told.send(how, said) == Counter([value.verdict]), what
    accepted, waiting = hub.json("/log")["events"][0], hub.json("/quarantine")["items"][0]
    for path in ("/log", "/quarantine", f"/log/{accepted['position']}", f"/quarantine/{waiting['position']}"):
        response, body = hub.ask("GET", path, accept="text/html")
        assert response.status == 200, (path, response.status, body)
        assert len(body) < 1_000_000 or "log/" in path, path  # an event's own page shows it whole
