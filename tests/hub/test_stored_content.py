"""R40 over HTTP: whatever a route answers, a browser that shows it is told not to run it nor to guess what it is."""

import re

import pytest

from sampan.api.policies import POLICIES
from tests.hub.conftest import Hub

#: What a browser shows without running anything that we did not write.
SHOWN = (
    "text/html",
    "application/json",
    "text/css",
    "text/javascript",
    "image/svg+xml",
    "text/plain",
)
TEMPLATES = sorted(path for method, path in POLICIES if method == "GET" and path != "/live")


@pytest.mark.parametrize("accept", ["text/html", "application/json", "*/*", "image/svg+xml"])
def test_every_answer_says_what_it_is_and_that_nothing_else_may_run(hub: Hub, accept: str) -> None:
    for template in TEMPLATES:
        for name in ("x", "app.css", "%3Cscript%3Ealert(1)%3C%2Fscript%3E"):
            path = re.sub(r"{\w+}", name, template)
            response, body = hub.ask("GET", path, accept=accept)
            kind, _, more = response.headers["content-type"].partition(";")
            assert response.headers["x-content-type-options"] == "nosniff", path
            policy = response.headers["content-security-policy"]
            assert "default-src 'none'" in policy, path
            assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "data:"} & set(policy.replace(";", " ").split()), path
            assert response.headers["x-frame-options"] == "DENY", path
            if kind not in SHOWN or (kind == "text/plain" and body):
                kept = response.headers["content-disposition"] or ""
                assert path == "/metrics" or kept.startswith("attachment"), (path, kind)
            if kind in ("image/svg+xml", "text/javascript", "text/css"):
                assert path.startswith(("/static/", "/charts/")), path
            if kind == "text/html":
                assert "charset=utf-8" in more, path
                assert b"<script>alert(1)" not in body, path
            if kind == "application/json":
                assert b"<script>" not in body or accept != "text/html", path
