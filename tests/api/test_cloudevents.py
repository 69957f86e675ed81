"""CloudEvents 1.0 over HTTP, with the Python SDK of the CloudEvents project, its current and its older interface.

The examples are written after "CloudEvents - Version 1.0.2", its "HTTP Protocol Binding" and its "JSON Event Format".
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.conversion import to_binary as old_binary
from cloudevents.v1.conversion import to_structured as old_structured
from cloudevents.v1.http import CloudEvent as OldCloudEvent
from tests.api.test_segment import stats
from tests.hub.conftest import Hub
from tests.robustness.server import the_log

from sampan.log.quarantine import Quarantine

Start = Callable[..., Hub]
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def send(hub: Hub, headers: dict[str, str], body: bytes | str) -> list[dict[str, Any]]:
    raw = body.encode() if isinstance(body, str) else body
    response, answer = hub.ask("POST", "/v1/events", raw, **{k.replace("-", "_"): v for k, v in headers.items()})
    assert response.status == 202, answer
    found: list[dict[str, Any]] = json.loads(answer)["results"]
    return found


def structured(hub: Hub, *events: Any, kind: str = "application/cloudevents-batch+json") -> list[dict[str, Any]]:
    return send(hub, {"content-type": kind}, json.dumps(events if "batch" in kind else events[0]))


def logged(hub: Hub) -> list[dict[str, Any]]:
    return [json.loads(event.raw) for event in the_log(hub.folder).events()]


def event(id: str = "1", **more: Any) -> dict[str, Any]:
    said = {
        "specversion": "1.0",
        "id": id,
        "source": "/shop/till",
        "type": "item_purchased",
        "time": "2026-01-02T03:04:05Z",
    }
    return said | {"data": {"item": "tea", "price": 1.5}} | more


@pytest.mark.slow
@pytest.mark.parametrize("binary", [True, False])
def test_the_sdk_delivers_in_either_mode_and_the_event_is_in_the_log(start: Start, binary: bool) -> None:
    hub = start()
    attributes = {
        "id": "a 1%€",
        "source": "/shop/till",
        "type": "item_purchased",
        "specversion": "1.0",
        "time": WHEN,
        "subject": "customer \u20ac",
        "datacontenttype": "application/json",
        "traceparent": "00-abc-01",
    }
    message = (to_binary_event if binary else to_structured_event)(
        CloudEvent(attributes, {"item": "tea", "price": 1.5})
    )
    assert [one["verdict"] for one in send(hub, dict(message.headers), message.body)] == ["accepted"]
    assert [one["verdict"] for one in send(hub, dict(message.headers), message.body)] == ["duplicate"]
    [found] = logged(hub)
    assert datetime.fromisoformat(found.pop("time")) == WHEN
    assert found == {
        "id": "a 1%€",
        "source": "/shop/till",
        "type": "item_purchased",
        "subject": "customer €",
        "traceparent": "00-abc-01",
        "data": {"item": "tea", "price": 1.5},
    }


def test_the_older_interface_of_the_sdk_delivers_the_same(start: Start) -> None:
    hub = start()
    attributes = {"id": "o", "source": "/s", "type": "item_purchased", "time": "2026-01-02T03:04:05+00:00"}
    made = OldCloudEvent(attributes, {"item": "tea", "price": 1.5})
    for headers, body in (old_binary(made, json.dumps), old_structured(made)):
        send(hub, dict(headers), body or b"")
    assert stats(hub)[:3] == (1, 1, 0)


def test_a_batch_of_the_specification_is_answered_item_by_item(start: Start) -> None:
    hub = start()
    thrift = event("B234-1234-1234", type="com.example.someevent", source="/mycontext/4", data_base64="c2FtcGFu")
    del thrift["data"]
    thrift["datacontenttype"] = "application/vnd.apache.thrift.binary"
    results = structured(hub, thrift, event("C234", comexampleothervalue=5), event("d", subject=None, unset=None))
    assert [(one["id"], one["verdict"]) for one in results] == [
        ("B234-1234-1234", "quarantined"),
        ("C234", "accepted"),
        ("d", "accepted"),
    ]
    assert results[0]["reason"].startswith("unknown type: cloudevents 'com.example.someevent'")
    assert logged(hub)[0]["comexampleothervalue"] == 5
    assert structured(hub) == []


def test_one_event_becomes_several_by_a_mapping(start: Start) -> None:
    hub = start()
    lines = [{"sku": "a", "quantity": 1, "price": 2}, {"sku": "b", "quantity": 2, "price": 3}]
    sent = event(type="com.example.order", subject="o77", data={"lines": lines})
    results = structured(hub, sent, kind="application/cloudevents+json; charset=UTF-8")
    assert [one["id"] for one in results] == ["1/0", "1/1"]
    assert logged(hub)[1]["data"] == {"sku": "b", "quantity": 2, "price": 3, "invoice": "o77"}


def test_data_that_is_not_json_is_taken_by_a_contract_that_has_a_field_for_it_and_else_kept(start: Start) -> None:
    hub = start()
    head = {"ce-specversion": "1.0", "ce-source": "/s", "ce-time": "2026-01-02T03:04:05Z"}
    text = head | {"ce-id": "t", "ce-type": "com.example.note", "content-type": "text/plain"}
    assert send(hub, text, "hello")[0]["verdict"] == "accepted"
    picture = head | {"ce-id": "p", "ce-type": "com.example.picture", "content-type": "image/png"}
    assert send(hub, picture, b"\x89PNG\xff")[0]["verdict"] == "accepted"
    xml = head | {"ce-id": "x", "ce-type": "item_purchased", "content-type": "application/xml"}
    refused = send(hub, xml, '<much wow="xml"/>')[0]
    assert (
        refused["reason"] == "not JSON: its data is 'application/xml', and item_purchased has no field for it at $.data"
    )
    assert structured(hub, event("s", data="I'm just a string"))[0]["reason"].startswith(
        "not JSON: its data is no object"
    )
    encoded = event("e", datacontenttype="application/json", data_base64="eyJpdGVtIjoidGVhIiwicHJpY2UiOjF9")
    del encoded["data"]
    assert structured(hub, encoded)[0]["verdict"] == "accepted"
    assert [one["data"] for one in logged(hub)] == [
        {"data": "hello"},
        {"data_base64": "iVBOR/8="},
        {"item": "tea", "price": 1},
    ]
    assert Quarantine(the_log(hub.folder)).items()[0].raw == b'<much wow="xml"/>'


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"specversion": "0.3"}, "invalid: specversion is 1.0, not '0.3' at $.specversion"),
        ({"specversion": None}, "invalid: a CloudEvent has a specversion at $.specversion"),
        ({"id": ""}, "invalid: a CloudEvent has a text as its id at $.id"),
        ({"source": 7}, "invalid: a CloudEvent has a text as its source at $.source"),
        ({"Trace": "x"}, "invalid: attributes are named by small letters and digits, not 'Trace'"),
        ({"trace": {"a": 1}}, "invalid: the attribute trace is neither text, number nor true or false at $.trace"),
        ({"data_base64": "AA=="}, "invalid: an event has data or data_base64, not both at $.data_base64"),
        ({"data": None, "data_base64": "?"}, "invalid: data_base64 is not base64 at $.data_base64"),
        ({"time": "yesterday"}, "invalid: Invalid RFC3339 encoded datetime at $.time"),
        ({"version": 9}, "unknown version: item_purchased has 1, not 9 at $.version"),
        ({"data": {"item": 7}}, "invalid: Expected str, got int at $.data.item"),
        ({"datacontenttype": 7}, "invalid: datacontenttype is a text at $.datacontenttype"),
    ],
)
def test_what_the_specification_or_the_contract_does_not_allow_is_kept_and_told(
    shared: Hub, wrong: dict[str, Any], reason: str
) -> None:
    [result] = structured(shared, event(**wrong))
    assert (result["verdict"], result["reason"]) == ("quarantined", reason)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tests.api.conftest import CONTRACTS
    from tests.hub.conftest import make_workspace

    folder = make_workspace(tmp_path_factory.mktemp("shared") / "shop")
    (folder / "contracts.py").write_text(CONTRACTS)
    (folder / "tables" / "pages.sql").unlink()
    hub = Hub(folder)
    yield hub
    hub.stop()


def test_headers_that_are_wrong_are_told_and_what_they_say_is_kept_with_the_data(shared: Hub) -> None:
    head = {"ce-specversion": "1.0", "ce-id": "h", "ce-source": "/s", "ce-type": "item_purchased"}
    body = b'{"item": "tea", "price": 1}'

    def reason(body: bytes = body, kind: str = "application/json", **more: str) -> str:
        return str(send(shared, head | {"content-type": kind} | more, body)[0]["reason"])

    assert reason(**{"ce-subject": "%C0%A0"}) == "invalid: header ce-subject is no UTF-8"
    assert reason(**{"ce-datacontenttype": "text/plain"}).startswith("invalid: there is no header ce-datacontenttype")
    assert reason(**{"ce-specversion": "2.0"}) == "invalid: specversion is 1.0, not '2.0' at $.specversion"
    assert reason(b"{broken").startswith("not JSON")
    assert reason(body + b', "known_at": "2020-01-01T00:00:00Z"').startswith("not JSON")
    assert reason(b'{"item": 1, "item": 2}').startswith("repeated key")
    assert send(shared, {"ce-id": "1", "ce-type": "x", "ce-source": "y"}, b"{}")[0]["reason"].startswith(
        "invalid: a CloudEvent has a specversion"
    )
    assert send(shared, {"content-type": "application/cloudevents+avro"}, b"\x00")[0]["reason"].startswith(
        "not JSON: the format"
    )
    assert reason(**{"ce-id": '"quoted \\"id\\" %E2%82%AC"'}) == "None"
    assert 'quoted "id" €' in {event["id"] for event in logged(shared)}


def test_no_bytes_make_the_hub_stumble_and_none_are_lost(shared: Hub) -> None:
    bodies = [
        b"\xff",
        b"[" * 50_000,
        b'[{"id": 1}, {"specversion": "1.0"',
        b"[null, 1]",
        b"{}",
        b'{"specversion": "1.0", "specversion": "1.0"}',
        b'{"specversion": "1.0", "id": "\\ud800", "source": "s", "type": "t"}',
        b'{"data": NaN}',
    ]
    for body in bodies:
        for kind in (
            "application/cloudevents+json",
            "application/cloudevents-batch+json",
            "application/cloudevents+xml",
        ):
            before = stats(shared)
            results = send(shared, {"content-type": kind}, body)
            assert {one["verdict"] for one in results} == {"quarantined"}
            assert stats(shared)[2] - before[2] == len(results)
        binary = {"ce-id": "%00", "ce-type": "item_purchased", "ce-source": "s", "ce-specversion": "1.0"}
        send(shared, binary, body)


@pytest.mark.slow
def test_a_repaired_event_keeps_its_attributes(start: Start, tmp_path: Path) -> None:
    hub = start()
    head = {"ce-specversion": "1.0", "ce-id": "r", "ce-source": "/s", "ce-type": "item_purchased", "ce-color": "red"}
    send(hub, head | {"content-type": "application/json"}, b'{"item": 7, "price": 1}')
    send(hub, head | {"ce-id": "s", "content-type": "text/plain"}, b"tea")
    rule = tmp_path / "fix.py"
    rule.write_text(
        "def fix(event, reason):\n"
        "    data = event['data'] if isinstance(event.get('data'), dict) else {'item': event.get('raw'), 'price': 2}\n"
        "    return event | {'data': data | {'item': str(data['item'])}} if 'id' in event else None\n"
    )
    first, second = Quarantine(the_log(hub.folder)).propose(rule)
    assert first.after is not None
    assert json.loads(first.after) | {"time": ""} == {
        "id": "r",
        "source": "/s",
        "type": "item_purchased",
        "time": "",
        "color": "red",
        "data": {"item": "7", "price": 1},
    }
    assert (first.wrong, second.after) == (None, None)
