"""Segment's HTTP API, with Segment's own client for Python and with the example calls of its specification.

The examples are written after the pages "HTTP API Source" and "Spec: Track", "Identify", "Page", "Screen", "Group",
"Alias", "V2 Ecommerce Events" of Segment's public documentation.
"""

import base64
import gzip
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from segment.analytics.client import Client
from tests.hub.conftest import Hub

Start = Callable[..., Hub]


def client(hub: Hub, **options: Any) -> tuple[Client, list[Any]]:
    """Segment's client as its documentation sets it up, and the errors that it reports."""
    errors: list[Any] = []
    made = Client(hub.token, host=hub.url, on_error=lambda error, items: errors.append(error), **options)
    return made, errors


def basic(hub: Hub, secret: str | None = None) -> dict[str, str]:
    key = base64.b64encode(f"{hub.token if secret is None else secret}:".encode()).decode()
    return {"authorization": f"Basic {key}"}


def post(hub: Hub, path: str, body: Any, **headers: str) -> tuple[int, bytes]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    response, answer = hub.ask("POST", path, raw, content_type="application/json", **(basic(hub) | headers))
    return response.status, answer


def stats(hub: Hub) -> tuple[int, int, int, int]:
    found = hub.json("/v1/log/stats")
    return found["accepted"], found["duplicate"], found["quarantined"], found["refused"]


def events(hub: Hub) -> dict[str, dict[str, Any]]:
    """What is in the log, by id, as its page's twin shows it."""
    found = hub.json("/log?limit=100")["events"]
    return {event["id"]: hub.json(f"/log/{event['position']}") for event in found}


@pytest.mark.parametrize("zipped", [False, True])
def test_segments_client_delivers_every_call_and_it_is_in_the_log(start: Start, zipped: bool) -> None:
    hub = start()
    sent, errors = client(hub, gzip=zipped, upload_size=7)
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    products = [{"sku": "a", "quantity": 1, "price": 2.0}, {"sku": "b", "quantity": 3, "price": 0.5}]
    for number in range(20):
        order = {"order_id": f"o{number}", "total": 3.5, "products": products}
        assert sent.track("u1", "Order Completed", order, timestamp=when, message_id=f"t{number}")[0]
    sent.identify("u1", {"email": "ann@example.org", "plan": "gold"}, message_id="i")
    sent.page("u1", "Docs", "Home", {"url": "https://example.org/"}, message_id="p")
    sent.screen("u1", None, "Basket", message_id="s")
    sent.group("u1", "g7", {"name": "Initech"}, message_id="g")
    sent.alias("anon-1", "u1", message_id="a")
    sent.shutdown()
    assert errors == []
    assert stats(hub) == (45, 0, 0, 0)
    found = events(hub)
    line = found["t3/1"]
    assert (line["type"], line["subject"], line["source"]) == ("order_line", "u1", "owner")
    assert line["data"] == {"sku": "b", "quantity": 3, "price": 0.5, "invoice": "o3"}
    assert line["time"] == 1767323045000000
    assert found["p"]["data"] == {"url": "https://example.org/", "name": "Home", "category": "Docs"}
    assert [found[id]["data"] for id in "isga"] == [
        {"email": "ann@example.org", "plan": "gold"},
        {"name": "Basket"},
        {"name": "Initech", "group_id": "g7"},
        {"previous_id": "anon-1"},
    ]


def test_segments_client_tries_again_until_a_hub_is_up_and_nothing_is_there_twice(start: Start) -> None:
    first = start()
    port, when = first.port, datetime(2026, 1, 2, tzinfo=UTC)
    sent, errors = client(first, upload_interval=0.1)
    sent.track("u1", "Item Purchased", {"item": "tea", "price": 1.0}, timestamp=when, message_id="one")
    sent.flush()
    first.stop()
    sent.track("u1", "Item Purchased", {"item": "tea", "price": 1.0}, timestamp=when, message_id="one")
    sent.track("u1", "Item Purchased", {"item": "mug", "price": 4.0}, message_id="two")
    flushed = threading.Thread(target=sent.flush)
    flushed.start()
    time.sleep(1)
    assert flushed.is_alive()
    again = start(port=port)
    flushed.join(30)
    assert not flushed.is_alive()
    sent.shutdown()
    assert errors == []
    assert stats(again)[:3] == (2, 1, 0)


EXAMPLES = {
    "/v1/identify": {
        "userId": "019mr8mf4r",
        "traits": {"email": "pgibbons@example.com", "name": "Peter Gibbons", "industry": "Technology"},
        "context": {"ip": "24.5.68.47"},
        "timestamp": "2012-12-02T00:30:08.276Z",
    },
    "/v1/track": {
        "userId": "019mr8mf4r",
        "event": "Item Purchased",
        "properties": {"name": "Leap to Conclusions", "item": "mat", "price": 14.99},
        "context": {"ip": "24.5.68.47"},
        "timestamp": "2012-12-02T00:30:12.984Z",
    },
    "/v1/page": {
        "userId": "019mr8mf4r",
        "name": "Tracking HTTP API",
        "properties": {},
        "timestamp": "2012-12-02T00:31:29.738Z",
    },
    "/v1/screen": {"userId": "019mr8mf4r", "name": "Tracking HTTP API", "properties": {}},
    "/v1/group": {
        "userId": "019mr8mf4r",
        "groupId": "56",
        "traits": {"name": "Initech", "industry": "Technology", "employees": 329, "plan": "enterprise"},
        "timestamp": "2012-12-02T00:31:38.208Z",
    },
    "/v1/alias": {"previousId": "39239-239239-239239-23923", "userId": "019mr8mf4r"},
}


def test_the_examples_of_the_specification_are_taken(start: Start) -> None:
    hub = start()
    for path, body in EXAMPLES.items():
        assert post(hub, path, body) == (200, b'{"success": true}')
    batch = [body | {"type": path.rpartition("/")[2]} for path, body in EXAMPLES.items()]
    assert post(hub, "/v1/batch", {"batch": batch, "context": {"device": {"type": "phone"}}})[0] == 200
    # those that say when they happened are the same in the batch; of the others nobody knows
    accepted, duplicate, quarantined, _ = stats(hub)
    assert (accepted + duplicate, quarantined) == (12, 0)
    found = {event["type"]: event for event in events(hub).values()}
    assert set(found) == {"identify", "item_purchased", "page", "screen", "group", "alias"}
    assert {event["subject"] for event in found.values()} == {"019mr8mf4r"}


def test_the_common_fields_of_the_specification_are_refused_for_the_right_reason(start: Start) -> None:
    hub = start()
    common = {
        "anonymousId": "507f191e810c19729de860ea",
        "context": {"active": True, "app": {"name": "InitechGlobal"}, "ip": "8.8.8.8"},
        "integrations": {"All": True, "Mixpanel": False},
        "messageId": "022bb90c-bbac-11e4-8dfc-aa07a5b093db",
        "receivedAt": "2015-12-10T04:08:31.909Z",
        "sentAt": "2015-12-10T04:08:31.581Z",
        "timestamp": "2015-12-10T04:08:31.905Z",
        "type": "track",
        "userId": "97980cfea0067",
        "version": 2,
    }
    assert post(hub, "/v1/track", common)[0] == 200
    [reason] = hub.json("/quarantine")["reasons"]
    assert (reason["reason"], reason["path"]) == ("invalid: a track call names its event", "$.event")


def test_a_write_key_opens_these_routes_alone(start: Start) -> None:
    hub = start()
    assert post(hub, "/v1/track", EXAMPLES["/v1/track"])[0] == 200
    for header in ("Basic !!!", "Basic", "Basic " + base64.b64encode(b":x").decode(), "Basic " + "A" * 9000):
        assert post(hub, "/v1/track", EXAMPLES["/v1/track"], authorization=header)[0] == 401
    assert post(hub, "/v1/track", EXAMPLES["/v1/track"], **basic(hub, "smp_nobody"))[0] == 401
    for method, path in [("POST", "/v1/events"), ("GET", "/v1/log/stats"), ("POST", "/v1/tokens"), ("GET", "/log")]:
        response, _ = hub.ask(method, path, b"{}", **basic(hub))
        assert response.status == 401, path
    response, _ = hub.ask(
        "POST", "/v1/tokens", b'{"name": "site", "role": "producer"}', content_type="application/json"
    )
    assert response.status == 201
    secret = json.loads(_)["secret"]
    assert post(hub, "/v1/track", EXAMPLES["/v1/track"] | {"messageId": "of-site"}, **basic(hub, secret))[0] == 200
    assert events(hub)["of-site"]["source"] == "site"
    assert hub.ask("DELETE", "/v1/tokens/site")[0].status == 200
    assert post(hub, "/v1/track", EXAMPLES["/v1/track"], **basic(hub, secret))[0] == 401


def test_what_is_not_kept_is_not_called_a_success(start: Start) -> None:
    hub = start(SAMPAN_BODY_LIMIT="100000")
    big = {"batch": [EXAMPLES["/v1/track"] | {"type": "track", "note": "x" * 200_000}]}
    assert post(hub, "/v1/batch", big)[0] == 413
    bomb = gzip.compress(b" " * 10_000_000)
    assert post(hub, "/v1/batch", bomb, content_encoding="gzip")[0] == 413
    assert post(hub, "/v1/track", b"", authorization="")[0] == 401
    assert hub.ask("PUT", "/v1/track", b"{}", **basic(hub))[0].status == 405
    assert post(hub, "/v1/batch", bomb[:50], content_encoding="gzip") == (200, b'{"success": true}')
    assert post(hub, "/v1/batch", {"batch": []}) == (200, b'{"success": true}')
    assert stats(hub) == (0, 0, 1, 2)


BODIES = [
    b"",
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b'{"batch": ' + b"[" * 2_000,
    b'{"batch": [{"type": "track", "event": ' + b'{"a":' * 1_000 + b"1" + b"}" * 1_000 + b"}]}",
    b'{"batch": [{"type": "track", "event": "Item Purchased", "properties": {"price": NaN}}]}',
    b'{"batch": [{"type": "track", "event": "Item Purchased", "properties": [], "timestamp": 1e999}]}',
    b'{"batch": [{"type": "track", "event": "\xed\xa0\x80", "properties": {}, "messageId": 1}], "sentAt": -1}',
    b'{"batch": [null, 1, "a", [], {}, {"type": null}, {"type": "track", "event": "x"}]}',
    b'{"batch": {"a": 1}}',
    b'{"batch": [{"type": "page", "properties": "x", "name": "n", "timestamp": "9999-12-31T23:59:59Z"}], '
    b'"sentAt": "0001-01-01T00:00:00Z"}',
    b'{"batch": [{"type": "group", "traits": {"a": 1, "a": 2}, "groupId": "\\ud800"}]}',
    b'{"batch": [{"type": "track", "event": "Order Completed", "properties": {"products": [1, {}, null]}}]}',
]


def test_no_bytes_make_the_hub_stumble_and_none_are_lost(start: Start) -> None:
    hub = start()
    for body in BODIES:
        before = stats(hub)[2]
        for path in ("/v1/batch", "/v1/track", "/v1/import", "/v1/identify"):
            assert post(hub, path, body)[0] == 200, body[:80]
        accepted, _, quarantined, refused = stats(hub)
        assert (accepted, refused) == (0, 0), body[:80]
        assert quarantined - before >= (4 if body else 0), body[:80]
