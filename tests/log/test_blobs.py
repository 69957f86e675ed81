"""Bytes and long texts in events: kept by digest before the event is acknowledged, checked, never lost."""

import base64
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from sampan.base.errors import BadContract, DiskFull
from sampan.lake.query import open_sources
from sampan.log.attachments import Attachments, image_type
from sampan.log.check import Checker
from sampan.log.contracts import Contracts
from tests.log.conftest import Shop

REPORTS = """
from typing import Annotated, Any
from sampan import Blob, Event, Field, Text, upcast

class Report(Event, version=2):
    title: str
    body: Annotated[Text, Field(max_length=2_000, language="en")] = ""
    photo: Annotated[Blob | None, Field(max_bytes=1_000, media_types=["image/png", "text/plain"])] = None
    file: Blob | None = None
    extra: Any = None

@upcast(Report, since=1)
def _(data):
    return data

class Plain(Event):
    n: int
"""
DATA = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
DIGEST = sha256(DATA).hexdigest()


def blob(data: bytes = DATA, media_type: str = "image/png") -> dict[str, Any]:
    return {"media_type": media_type, "base64": base64.b64encode(data).decode()}


def report(id: str, **data: Any) -> dict[str, Any]:
    return {
        "id": id,
        "type": "report",
        "source": "desk",
        "time": "2026-01-01T00:00:00Z",
        "data": {"title": "t", **data},
    }


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path / "shop", REPORTS)
    yield made
    made.close()


def store(shop: Shop) -> Attachments:
    return Attachments(shop.root / ".sampan" / "attachments")


def test_bytes_sent_inline_lie_under_their_digest_and_the_log_names_it(shop: Shop) -> None:
    (verdict,) = shop.send(report("1", photo=blob(), extra=[1.50, 12345678901234567890]))
    assert verdict.verdict == "accepted"
    assert store(shop).get(DIGEST) == DATA
    event = shop.log().at(verdict.position)
    assert json.loads(event.data)["photo"] == {"digest": DIGEST, "media_type": "image/png", "size": len(DATA)}
    assert b"[1.5, 12345678901234567890]" in event.raw  # all else as it was sent
    assert b"base64" not in event.raw


def test_what_was_uploaded_can_be_named(shop: Shop) -> None:
    store(shop).upload(DATA, "image/png")
    sent = [report("1", photo={"digest": DIGEST}), report("2", file={"digest": DIGEST, "media_type": "x/y"})]
    verdicts = shop.send(*sent)
    assert [one.verdict for one in verdicts] == ["accepted", "accepted"]
    first, second = (json.loads(event.data) for event in shop.log().events())
    assert first["photo"] == {"digest": DIGEST, "media_type": "image/png", "size": len(DATA)}
    assert second["file"]["media_type"] == "x/y"


def test_bytes_of_the_same_request_can_be_named_too(shop: Shop) -> None:
    verdicts = shop.send(report("1", photo=blob()), report("2", photo={"digest": DIGEST}))
    assert [one.verdict for one in verdicts] == ["accepted", "accepted"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "reason", "path"),
    [
        ({"digest": "0" * 64}, "missing blob", "$.data.photo.digest"),
        ({"digest": "../../token"}, "invalid", "$.data.photo.digest"),
        ({}, "a blob needs media_type and base64, or a digest", "$.data.photo"),
        ({"base64": "AA=="}, "a blob needs", "$.data.photo"),
        ({"media_type": "image/png", "base64": "%%"}, "not base64", "$.data.photo.base64"),
        ({"media_type": "no type", "base64": "AA=="}, "is no media type", "$.data.photo.media_type"),
        (
            {"media_type": "text/html", "base64": "AA=="},
            "is not one of image/png, text/plain",
            "$.data.photo.media_type",
        ),
        (blob(b"x" * 1_001), "1001 bytes are more than 1000", "$.data.photo"),
        ({**blob(), "digest": "0" * 64}, "a blob needs", "$.data.photo"),
        ("text", "invalid", "$.data.photo"),
    ],
)
def test_what_is_no_blob_is_quarantined_as_it_was_sent(shop: Shop, wrong: Any, reason: str, path: str) -> None:
    sent = [report("0"), report("1", photo=wrong), report("2", photo=blob())]
    verdicts = shop.send(*sent)
    assert [one.verdict for one in verdicts] == ["accepted", "quarantined", "accepted"]
    held = shop.log().at(verdicts[1].position)
    assert reason in (held.reason or "")
    assert held.path == path
    assert json.loads(held.raw) == sent[1]


def test_an_event_with_bytes_sent_again_is_a_duplicate_however_it_carries_them(shop: Shop) -> None:
    shop.send(report("1", photo=blob()))
    again = [report("1", photo=blob()), report("1", photo={"digest": DIGEST}), report("1", photo=blob(DATA + b"!"))]
    assert [one.verdict for one in shop.send(*again)] == ["duplicate", "duplicate", "quarantined"]


def test_sql_sees_a_struct_of_digest_type_and_size(shop: Shop) -> None:
    shop.send(report("1", photo=blob(), body="x" * 2_000), report("2"), {**report("3", file=blob()), "version": 1})
    log = shop.log()
    connection = open_sources({"report": log.source("report", log.position())})
    rows = connection.execute("SELECT photo.digest, photo.size, file.media_type, length(body) FROM report ORDER BY _id")
    assert rows.fetchall() == [(DIGEST, len(DATA), None, 2_000), (None, None, None, 0), (None, None, "image/png", 0)]
    connection.close()


def test_a_text_says_how_long_it_may_be(shop: Shop) -> None:
    spec = shop.contracts().get("report")
    body = spec.field("body")
    assert body is not None
    assert (body.type, body.language, body.bounds) == ("text", "en", {"max_length": 2_000})
    assert [one.verdict for one in shop.send(report("1", body="x" * 2_001))] == ["quarantined"]


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("a: Text", "without a limit"),
        ("a: list[Blob]", "within something else"),
        ("a: dict[str, Blob | None]", "within something else"),
        ("a: Annotated[Blob, Field(personal=True)]", "personal"),
        ("a: Annotated[str, Field(max_bytes=3)]", "max_bytes without a Blob"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_the_contract(tmp_path: Path, field: str, said: str) -> None:
    path = tmp_path / "contracts.py"
    path.write_text(
        f"from typing import Annotated\nfrom sampan import Blob, Event, Field, Text\nclass A(Event):\n    {field}\n"
    )
    with pytest.raises(BadContract, match=said):
        Contracts.load(path)


def test_an_event_is_not_taken_when_its_bytes_cannot_be_kept(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = shop.writer()

    def full(self: Attachments, data: bytes) -> str:
        raise DiskFull("Write", "the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(Attachments, "put", full)
        with pytest.raises(DiskFull):
            writer.append(writer.checker.read(json.dumps(report("1", photo=blob())).encode()), "test")
        assert not writer.health().ready
    answer = writer.append(writer.checker.read(json.dumps(report("1", photo=blob())).encode()), "test")
    assert [one.verdict for one in answer.verdicts()] == ["accepted"]
    assert writer.health().ready


def test_contracts_without_bytes_take_no_part_in_it(tmp_path: Path) -> None:
    path = tmp_path / "contracts.py"
    path.write_text("from sampan import Event\nclass Plain(Event):\n    n: int\n")
    checker = Checker(Contracts.load(path))
    assert not checker._blobs


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (DATA, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"<svg onload=alert(1)>", None),
        (b"<html>", None),
        (b"", None),
    ],
)
def test_only_bytes_that_are_a_picture_are_one(data: bytes, kind: str | None) -> None:
    assert image_type(data) == kind
