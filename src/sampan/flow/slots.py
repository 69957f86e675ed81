"""Processors and memory that the nodes of one run share."""

import os
from typing import Any

from sampan.base.errors import Usage
from sampan.base.settings import Settings
from sampan.flow.graph import Node
from sampan.flow.source import parse_bytes


class Slots:
    """Who holds how many of the run's processors, and who declared how much memory."""

    def __init__(self, settings: Settings) -> None:
        workers: int = settings.get("workers")
        if workers < 0:
            raise Usage("Read [settings] workers", f"it is {workers}", "0: one step per processor.")
        self.total = workers or processors()
        self.memory = _memory(str(settings.get("memory")))
        self._held: dict[str, int] = {}
        self._declared: dict[str, int] = {}

    @property
    def busy(self) -> bool:
        return bool(self._held)

    def wanted(self, node: Node) -> int:
        """Processors that a node occupies."""
        return min(int(node.options.get("cpus") or 1), self.total)

    def fits(self, node: Node) -> bool:
        """Whether a node may start beside those that run. One that is alone always may."""
        used = sum(self._held.values())
        if used and used + self.wanted(node) > self.total:
            return False
        memory, taken = memory_of(node), sum(self._declared.values())
        return not (memory and taken and memory + taken > self.memory)

    def take(self, node: Node) -> None:
        self._held[node.name] = self.wanted(node)
        self._declared[node.name] = memory_of(node)

    def give_back(self, node: Node) -> None:
        self._held.pop(node.name, None)
        self._declared.pop(node.name, None)

    def share(self, node: Node) -> int:
        """Processors that a node which fans out may use: its own and those that nobody holds."""
        return max(1, self.total - sum(self._held.values()) + self._held.get(node.name, 0))

    def hold(self, node: Node, workers: int) -> None:
        """A node that fans out has so many workers now."""
        if node.name in self._held:
            self._held[node.name] = max(1, workers) * int(node.options.get("cpus") or 1)

    def affinity(self, node: Node) -> list[int]:
        """The processors that a node with ``cpus=`` is pinned to, beside those of others."""
        wanted = node.options.get("cpus")
        if not wanted or not hasattr(os, "sched_getaffinity"):
            return []
        available = sorted(os.sched_getaffinity(0))
        start = sum(self._held.values()) - self._held.get(node.name, 0)
        count = min(wanted, len(available))
        return sorted({available[(start + i) % len(available)] for i in range(count)})

    def part_of_machine(self, node: Node) -> float:
        """How much of this machine a node occupies, for its cost."""
        return min(1.0, self.wanted(node) / processors())


def memory_of(node: Node) -> int:
    """Bytes that a node declared; 0 if it declared none."""
    declared: Any = node.options.get("memory")
    return parse_bytes(declared) or 0


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory(text: str) -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    share = text.strip().removesuffix("%")
    if share != text.strip() and share.replace(".", "", 1).isdigit() and float(share) > 0:
        return int(total * float(share) / 100)
    found = parse_bytes(int(text) if text.isdigit() else text)
    if found is None:
        raise Usage("Read [settings] memory", f"{text!r} is no amount of memory", 'Give "80%", or such as "4GB".')
    return found
