"""A hub that is told to stop does so, whatever its threads are at."""

import os
import signal
import subprocess
import sys
import time
from http.client import HTTPConnection

from tests.hub.conftest import environment

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
