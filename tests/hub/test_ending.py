"""A hub that is told to stop does so, whatever its threads are at, and says so to who waits."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

from tests.hub.conftest import Hub, environment

BUSY = """
import asyncio, os, threading, time
from contextlib import asynccontextmanager
from sampan.hub import server

server.GRACE, server.LAST = 1, 0.5
asked = []

async def app(scope, receive, send):
    asked.append(1)
    await asyncio.to_thread(time.sleep, 600)  # as a page that reads gigabytes

@asynccontextmanager
async def stack():
    try:
        yield app
    finally:
        await server.apart(lambda: print("taken down", flush=True))

listener = server.bind("127.0.0.1", 0)

def tell():
    print(listener.getsockname()[1], flush=True)

def told():
    while len(asked) < 40:
        time.sleep(0.01)
    print("busy", flush=True)

threading.Thread(target=told, daemon=True).start()
server.serve(stack, listener, tell)
print("ended", flush=True)
os._exit(0)
"""


def test_more_threads_than_there_are_hold_nothing_up() -> None:
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True, env=environment())
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        open_ = []
        for _ in range(40):
            connection = HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/")
            open_.append(connection)
        assert process.stdout.readline() == "busy\n"
        os.kill(process.pid, signal.SIGTERM)
        began = time.monotonic()
        said, _ = process.communicate(timeout=60)
        assert said == "taken down\nended\n" and process.returncode == 0
        assert time.monotonic() - began < 20
        for connection in open_:
            connection.close()
    finally:
        process.kill()
        process.wait()


SLOW = """
import runpy, sys, time
from pathlib import Path
from sampan.hub import server
from sampan.hub.views import events

server.GRACE, server.LAST = 1, 0.5
sys.argv = ["sampan", *sys.argv[4:]]

def seek(*given, **how):  # as over gigabytes
    with Path("ASKED").open("a") as file:
        file.write(".")
    time.sleep(600)

events.seek = seek
runpy.run_module("sampan", run_name="__main__", alter_sys=True)
"""


def test_a_page_that_reads_the_log_while_the_hub_stops_is_answered_that_it_does(workspace: Path) -> None:
    asked = workspace.parent / "asked"
    hub = Hub(workspace, under=[sys.executable, "-c", SLOW.replace("ASKED", str(asked))])
    try:
        with ThreadPoolExecutor(2) as threads:
            kinds = ["text/html", "application/json"]
            answers = [threads.submit(hub.ask, "GET", "/log", accept=kind) for kind in kinds]
            until = time.monotonic() + 20
            while not asked.exists() or asked.stat().st_size < 2:
                assert time.monotonic() < until
                time.sleep(0.01)
            assert hub.stop() == 0
            for kind, (response, body) in zip(kinds, (one.result() for one in answers), strict=True):
                assert response.status == 503 and response.headers["retry-after"] == "5"
                assert response.headers["content-type"].startswith(kind)
                assert "default-src" in response.headers["content-security-policy"]
                assert "the hub was told to end" in body.decode() and "Ask again when it is up." in body.decode()
    finally:
        hub.process.kill()
        hub.process.wait()
