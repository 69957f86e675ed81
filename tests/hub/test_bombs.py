"""R39: what is too large, packed too tightly or never ends is refused at once, and memory does not grow by it."""

import gzip
import os
import socket
import time
from pathlib import Path

import pytest
import zstandard

from tests.hub.conftest import Hub, make_workspace, visit

INTAKES = ("/v1/events", "/v1/track", "/v1/batch", "/mp/collect")
NOTHING = b" " * 200_000_000


def resident(process: int) -> int:
    """A process's memory, in MB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    return {"gzip": gzip.compress(NOTHING, 6), "zstd": zstandard.compress(NOTHING)}


def test_bombs_and_bodies_that_lie_or_never_end_are_refused_at_once(tmp_path: Path, bombs: dict[str, bytes]) -> None:
    hub = Hub(make_workspace(tmp_path / "shop"))
    hub.send(visit("before"))
    before = resident(hub.pid)
    for path in INTAKES:
        for encoding, body in bombs.items():
            began = time.monotonic()
            response, said = hub.ask("POST", path, body, content_type="application/json", content_encoding=encoding)
            assert response.status < 500 and response.status not in (200, 204), (path, encoding, said[:200])
            assert time.monotonic() - began < 3, (path, encoding)
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{hub.port}\r\nAuthorization: Bearer {hub.token}\r\n"
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", hub.port), timeout=5) as lying:
            lying.sendall(f"{head}Content-Length: 99999999999\r\n\r\n".encode())
            answer = lying.recv(4096)
        assert answer[9:12] in (b"413", b"400", b"404"), (path, answer[:200])
        assert time.monotonic() - began < 3, path
    slow = [socket.create_connection(("127.0.0.1", hub.port), timeout=5) for _ in range(50)]
    for one in slow:
        one.sendall(f"{head}Content-Length: 100\r\n\r\n[".encode())
    began = time.monotonic()
    assert hub.send(visit("between"))[0]["verdict"] == "accepted"
    assert time.monotonic() - began < 2
    for one in slow:
        one.close()
    assert resident(hub.pid) - before < 100
    assert hub.json("/v1/log/stats")["accepted"] == 2
    assert hub.stop() == 0
