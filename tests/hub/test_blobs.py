"""Bytes over HTTP: uploaded, named by an event, offered on its page as a download that can do no harm."""

import base64
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.hub.conftest import Hub, make_workspace
from tests.hub.test_pages import read

CONTRACT = """
from sampan import Blob, Event

class Report(Event):
    photo: Blob | None = None
    file: Blob | None = None
"""
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))
HTML = b"<html><script>alert(1)</script>"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = make_workspace(tmp_path_factory.mktemp("blobs") / "desk")
    (folder / "contracts.py").write_text(CONTRACT)
    (folder / "tables" / "pages.sql").write_text("SELECT photo.digest AS digest FROM report\n")
    hub = Hub(folder)
    yield hub
    assert hub.stop() == 0


def report(id: str, **data: object) -> dict[str, object]:
    return {"id": id, "type": "report", "source": "desk", "time": "2026-01-01T00:00:00Z", "data": data}


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_what_is_uploaded_comes_back_as_it_was(desk: Hub, method: str) -> None:
    response, body = desk.ask(method, "/v1/blobs", PNG, content_type="image/png")
    told = json.loads(body)
    assert (response.status, told) == (
        201,
        {"digest": sha256(PNG).hexdigest(), "media_type": "image/png", "size": len(PNG)},
    )
    response, body = desk.ask("GET", f"/v1/blobs/{told['digest']}")
    assert (response.status, body) == (200, PNG)
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"].startswith("attachment")
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(("limit", "size", "status"), [(1_000, 2_000, 413), (20_000_000, 17_000_000, 201)])
def test_the_setting_for_bodies_rules_uploads_and_repairs(tmp_path: Path, limit: int, size: int, status: int) -> None:
    hub = Hub(make_workspace(tmp_path / "shop"), SAMPAN_BODY_LIMIT=str(limit))
    try:
        assert hub.ask("PUT", "/v1/blobs", bytes(size), content_type="application/octet-stream")[0].status == status
        body = json.dumps({"proposals": [], "rule": "x" * size}).encode()
        repaired = hub.ask("POST", "/v1/quarantine/repairs", body, content_type="application/json")[0].status
        assert (repaired == 413) == (status == 413)
    finally:
        assert hub.stop() == 0


def test_the_page_of_an_event_offers_its_bytes_and_shows_only_pictures(desk: Hub) -> None:
    inline = {"media_type": "image/png", "base64": base64.b64encode(HTML).decode()}  # it says so and is none
    desk.ask("PUT", "/v1/blobs", PNG, content_type="image/png")
    (verdict,) = desk.send(report("1", photo={"digest": sha256(PNG).hexdigest()}, file=inline))
    assert verdict["verdict"] == "accepted"
    page = desk.json(f"/log/{verdict['position']}")
    photo, file = page["attached"]
    assert (photo["field"], photo["picture"], photo["there"]) == ("photo", True, True)
    assert (file["field"], file["picture"], file["size"]) == ("file", False, len(HTML))
    shown = read(desk, f"/log/{verdict['position']}")
    assert f"/v1/blobs/{photo['digest']}" in shown.links
    response, body = desk.ask("GET", f"/v1/blobs/{photo['digest']}?show=image")
    assert (response.headers["content-type"], response.headers["content-disposition"], body) == (
        "image/png",
        "inline",
        PNG,
    )
    response, body = desk.ask("GET", f"/v1/blobs/{file['digest']}?show=image")
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in ", ".join(response.headers.get_all("content-security-policy") or [])


def test_an_event_that_names_bytes_which_are_not_there_waits_in_quarantine(desk: Hub) -> None:
    (verdict,) = desk.send(report("2", photo={"digest": "0" * 64}))
    assert verdict["verdict"] == "quarantined"
    assert "missing blob" in str(verdict["reason"])


@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "status"),
    [
        ("GET", f"/v1/blobs/{'0' * 64}", None, "", 404),
        ("GET", "/v1/blobs/..%2f..%2ftoken", None, "", 404),
        ("GET", "/v1/blobs/token", None, "", 404),
        ("PUT", "/v1/blobs", b"x", "no type", 400),
        ("PUT", "/v1/blobs", b"x" * (16_777_216 + 1), "text/plain", 413),
    ],
)
def test_what_cannot_be_is_refused(
    desk: Hub, method: str, path: str, body: bytes | None, kind: str, status: int
) -> None:
    response, said = desk.ask(method, path, body, **({"content_type": kind} if kind else {}))
    assert response.status == status, said
    assert "error" in json.loads(said)


def test_a_model_s_or_a_run_s_bytes_cannot_be_named(desk: Hub) -> None:
    from sampan.store.blobs import Blobs

    digest = Blobs(desk.folder / ".sampan" / "blobs").put(b"weights")
    assert desk.ask("GET", f"/v1/blobs/{digest}")[0].status == 404
    assert desk.send(report("3", photo={"digest": digest}))[0]["verdict"] == "quarantined"
