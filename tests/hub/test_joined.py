"""Writes of one turn of the loop go out as one."""

import asyncio
from typing import Any

from sampan.hub.joined import Joined


class Wire(asyncio.Transport):
    """What reached the system, call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def write(self, data: Any) -> None:
        self.calls.append(bytes(data))

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")


def test_head_and_body_of_an_answer_cost_one_call() -> None:
    async def answer() -> list[Any]:
        wire = Wire()
        joined = Joined(wire, asyncio.get_running_loop().call_soon)
        joined.write(b"head ")
        joined.write(bytearray(b"body"))
        assert wire.calls == []
        await asyncio.sleep(0)
        joined.write(b"next")
        await asyncio.sleep(0)
        return wire.calls

    assert asyncio.run(answer()) == [b"head body", b"next"]


def test_closing_sends_what_waits_and_aborting_does_not() -> None:
    async def end(how: str) -> list[Any]:
        wire = Wire()
        joined = Joined(wire, asyncio.get_running_loop().call_soon)
        joined.write(b"last words")
        getattr(joined, how)()
        await asyncio.sleep(0)
        return wire.calls

    assert asyncio.run(end("close")) == [b"last words", "close"]
    assert asyncio.run(end("abort")) == ["abort"]


def test_much_is_not_held_back_until_the_end_of_a_turn() -> None:
    async def pour() -> list[Any]:
        wire = Wire()
        joined = Joined(wire, asyncio.get_running_loop().call_soon)
        for _ in range(100):
            joined.write(b"x" * 10_000)  # 1 MB without ever giving way
        assert 13 <= len(wire.calls) <= 15
        await asyncio.sleep(0)
        return wire.calls

    assert sum(map(len, asyncio.run(pour()))) == 1_000_000
