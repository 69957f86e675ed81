"""GA4's Measurement Protocol, as its documentation has it: plain HTTP.

The messages are written after the pages "Send Measurement Protocol events", "Events reference" and "Validate events" of
Google's public documentation of the Measurement Protocol (Google Analytics 4).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.api.test_segment import stats
from tests.hub.conftest import Hub
from tests.robustness.server import the_log

from sampan.log.quarantine import Quarantine

Start = Callable[..., Hub]

LOGIN = {"client_id": "1234567890.0987654321", "events": [{"name": "login", "params": {"method": "Google"}}]}
PURCHASE = {
    "client_id": "1234567890.0987654321",
    "user_id": "u1",
    "timestamp_micros": "1672531200000000",
    "non_personalized_ads": False,
    "events": [
        {
            "name": "purchase",
            "params": {
                "transaction_id": "T_12345",
                "currency": "USD",
                "value": 30.03,
                "items": [
                    {"item_id": "SKU_12345", "item_name": "Stan and Friends Tee", "price": 10.01, "quantity": 3},
                    {"item_id": "SKU_12346", "item_name": "Google Grey Women's Tee", "price": 21.01, "quantity": 2},
                ],
            },
        },
        {"name": "login", "params": {"method": "Mail"}, "timestamp_micros": 1672531201500000},
    ],
}


def send(hub: Hub, body: Any, path: str = "/mp/collect", secret: str | None = None, **query: str) -> tuple[int, bytes]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    said = {"measurement_id": "G-12345", "api_secret": hub.token if secret is None else secret} | query
    address = f"{path}?" + "&".join(f"{name}={value}" for name, value in said.items())
    response, answer = hub.ask("POST", address, raw, token=False, content_type="text/plain;charset=UTF-8")
    return response.status, answer


def messages(hub: Hub, body: Any, **query: str) -> list[tuple[str, str]]:
    status, answer = send(hub, body, "/debug/mp/collect", **query)
    assert status == 200
    return [(one["fieldPath"], one["validationCode"]) for one in json.loads(answer)["validationMessages"]]


def raws(hub: Hub) -> list[dict[str, Any]]:
    return [json.loads(event.raw) for event in the_log(hub.folder).events()]


def test_the_examples_of_the_documentation_become_events_of_the_stream(start: Start) -> None:
    hub = start()
    assert send(hub, LOGIN) == (204, b"")
    assert send(hub, PURCHASE) == (204, b"")
    login, first, second, late = raws(hub)
    assert (login["type"], login["source"], login["subject"]) == ("login", "G-12345", "1234567890.0987654321")
    assert (first["type"], first["time"], first["subject"]) == ("order_line", "2023-01-01T00:00:00Z", "u1")
    assert first["known_at"] == first["time"]
    assert first["data"] == {
        "sku": "SKU_12345",
        "item_name": "Stan and Friends Tee",
        "price": 10.01,
        "quantity": 3,
        "invoice": "T_12345",
    }
    assert second["data"]["invoice"] == "T_12345"
    assert (late["data"], late["time"]) == ({"method": "Mail"}, "2023-01-01T00:00:01.500000Z")
    digest = first["id"].partition("/")[0]
    assert [event["id"] for event in (first, second, late)] == [f"{digest}/0/0", f"{digest}/0/1", f"{digest}/1"]


def test_what_says_when_it_was_is_the_same_when_sent_again_and_what_does_not_counts_again(start: Start) -> None:
    hub = start()
    for body in (PURCHASE, PURCHASE, LOGIN, LOGIN):
        assert send(hub, body)[0] == 204
    assert stats(hub) == (5, 3, 0, 0)


def test_a_timestamp_of_milliseconds_is_taken_as_such(start: Start) -> None:
    hub = start()
    send(hub, LOGIN | {"timestamp_micros": 1672531200123})
    assert raws(hub)[0]["time"] == "2023-01-01T00:00:00.123000Z"


def test_a_message_in_quarantine_is_repaired_as_the_event_that_it_was_to_become(start: Start, tmp_path: Path) -> None:
    hub = start()
    bad = json.loads(json.dumps(PURCHASE))
    bad["events"][0]["params"]["items"][1]["quantity"] = 0
    body = json.dumps(bad).encode()
    send(hub, body)
    send(hub, {"client_id": "1.2", "events": [{"name": "nobody_knows"}]})
    assert stats(hub)[:3] == (2, 0, 2)
    log = the_log(hub.folder)
    held, unknown = Quarantine(log).items()
    assert (held.raw, held.path, held.source) == (body, "$.data.quantity", "G-12345")
    page = hub.json(f"/quarantine/{held.position}")
    assert (page["protocol"], page["part"]) == ("ga4", "0/1")
    assert b"a message of ga4: its event 0/1" in hub.ask("GET", f"/quarantine/{held.position}", accept="text/html")[1]
    assert unknown.reason is not None
    assert unknown.reason.startswith("unknown type: ga4 'nobody_knows'")
    rule = tmp_path / "fix.py"
    rule.write_text(
        "def fix(event, reason):\n"
        "    if 'quantity' not in reason: return None\n"
        "    return event | {'data': event['data'] | {'quantity': 1}}\n"
    )
    proposals = Quarantine(log).propose(rule)
    told = json.dumps(
        {
            "proposals": [
                {"position": one.position, "reason": one.reason, "before": one.before, "after": one.after}
                for one in proposals
            ],
            "rule": "a" * 64,
        }
    ).encode()
    for expected in (1, 0):
        response, answer = hub.ask("POST", "/v1/quarantine/repairs", told, content_type="application/json")
        assert response.status == 200, answer
        assert json.loads(answer)["accepted"] == expected
    assert [event["id"].partition("/")[2] for event in raws(hub)] == ["0/0", "1", "0/1"]


def test_validation_says_what_the_protocol_and_the_contracts_do_not_allow_and_keeps_nothing(start: Start) -> None:
    hub = start()
    assert messages(hub, LOGIN) == []
    assert messages(hub, PURCHASE) == []
    named = {"client_id": "c", "events": [{"name": "_badEventName", "params": {}}]}
    assert messages(hub, named) == [("events", "NAME_INVALID")]
    assert messages(hub, {"events": [{"name": "session_start"}]}) == [
        ("client_id", "VALUE_REQUIRED"),
        ("events", "NAME_RESERVED"),
    ]
    assert messages(hub, LOGIN | {"events": LOGIN["events"] * 26}) == [("events", "EXCEEDED_MAX_ENTITIES")]
    assert messages(hub, LOGIN | {"timestamp_micros": "soon"}) == [("timestamp_micros", "VALUE_INVALID")]
    assert messages(hub, b"{") == [("", "VALUE_INVALID")]
    assert messages(hub, {"client_id": "c", "events": [{"name": "login", "params": {"method": 7}}]}) == [
        ("events[0].params.method", "VALUE_INVALID")
    ]
    many = {"client_id": "c", "events": [{"name": "login", "params": {f"p{n}": n for n in range(26)}}, 7, {}]}
    assert messages(hub, many) == [
        ("events[0].params", "EXCEEDED_MAX_ENTITIES"),
        ("events", "VALUE_INVALID"),
        ("events", "VALUE_REQUIRED"),
    ]
    assert stats(hub) == (0, 0, 0, 0)
    assert not (hub.folder / ".sampan" / "keys.db").exists()


def test_a_secret_in_the_query_opens_these_routes_alone_and_is_nowhere_afterwards(start: Start) -> None:
    hub = start(SAMPAN_LOG_LEVEL="debug")
    assert send(hub, LOGIN, secret="")[0] == 401
    assert send(hub, LOGIN, secret="smp_wrong")[0] == 401
    assert send(hub, LOGIN, "/debug/mp/collect", secret="smp_wrong")[0] == 401
    assert send(hub, LOGIN, secret=hub.token.replace("_", "%5F"))[0] == 204
    for method, path in [("POST", "/v1/events"), ("POST", "/v1/track"), ("GET", "/v1/log/stats"), ("GET", "/log")]:
        response, _ = hub.ask(method, f"{path}?api_secret={hub.token}", b"{}", token=False)
        assert response.status == 401, path
    assert send(hub, b"\xff{broken")[0] == 204
    assert hub.ask("GET", f"/mp/collect?api_secret={hub.token}", token=False)[0].status == 405
    hub.process.terminate()
    said, _ = hub.process.communicate(timeout=60)
    logged = hub.complained()
    assert "/mp/collect" in logged
    assert hub.token not in said + logged
    for path in (hub.folder / ".sampan").rglob("*"):
        if path.is_file() and path.name != "token":
            assert hub.token.encode() not in path.read_bytes(), path


def test_no_bytes_make_the_hub_stumble_and_none_are_lost(start: Start) -> None:
    hub = start()
    bodies = [
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"client_id": "c", "events": ' + b"[" * 5_000,
        b'{"client_id": "c", "events": [{"name": "login", "params": {"method": NaN}}]}',
        b'{"client_id": "c", "client_id": "d", "events": [{"name": "login", "params": {"method": "x"}}]}',
        b'{"client_id": "c", "events": [{"name": "login", "params": {"method": "x", "method": "y"}}]}',
        b'{"client_id": 7, "events": [{"name": "login", "params": {"method": "x"}}]}',
        b'{"client_id": "c", "events": [null, 7, "x", [], {}, {"name": null}, {"name": "login"}]}',
        b'{"client_id": "c", "events": {}}',
        b'{"client_id": "c", "events": []}',
        b'{"client_id": "c", "timestamp_micros": 1e400, "events": [{"name": "login", "params": {"method": "x"}}]}',
        b'{"client_id": "c", "timestamp_micros": {}, "events": [{"name": "login", "params": {"method": "x"}}]}',
        b'{"client_id": "c", "timestamp_micros": 99999999999999999999, "events": [{"name": "login", "params": {}}]}',
        b'{"client_id": "c", "events": [{"name": "purchase", "params": {"items": [1, null, {}]}}]}',
        b'{"client_id": "c", "events": [{"name": "purchase", "params": "x"}]}',
    ]
    for body in bodies:
        before = stats(hub)
        assert send(hub, body)[0] == 204, body[:80]
        assert send(hub, body, "/debug/mp/collect")[0] == 200, body[:80]
        after = stats(hub)
        assert after[0] == 0, body[:80]
        assert after[2] > before[2], body[:80]
    assert send(hub, LOGIN, measurement_id="x" * 3_000)[0] == 204
    assert send(hub, LOGIN, measurement_id="%FF%00%22")[0] == 204
    assert stats(hub)[0] == 1
