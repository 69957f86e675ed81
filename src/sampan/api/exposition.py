"""Figures in the text format of Prometheus (version 0.0.4)."""

from collections.abc import Iterable, Mapping

from sampan.base.histogram import Histogram

TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = Mapping[str, str]


class Exposition:
    """Collects figures and writes them down, family by family."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def counter(self, name: str, help: str, rows: Iterable[tuple[Labels, float]]) -> None:
        self._family(name, "counter", help, rows)

    def gauge(self, name: str, help: str, rows: Iterable[tuple[Labels, float]]) -> None:
        self._family(name, "gauge", help, rows)

    def histogram(self, name: str, help: str, rows: Iterable[tuple[Labels, Histogram]]) -> None:
        self._head(name, "histogram", help)
        for labels, histogram in rows:
            buckets = histogram.buckets()
            for bound, number in buckets:
                self._line(f"{name}_bucket", {**labels, "le": bound}, number)
            self._line(f"{name}_sum", labels, histogram.total)
            self._line(f"{name}_count", labels, buckets[-1][1])

    def text(self) -> bytes:
        return "".join(self._lines).encode()

    def _family(self, name: str, kind: str, help: str, rows: Iterable[tuple[Labels, float]]) -> None:
        self._head(name, kind, help)
        for labels, value in rows:
            self._line(name, labels, value)

    def _head(self, name: str, kind: str, help: str) -> None:
        self._lines.append(f"# HELP {name} {_escaped(help)}\n# TYPE {name} {kind}\n")

    def _line(self, name: str, labels: Labels, value: float) -> None:
        inner = ",".join(f'{label}="{_escaped(text, quoted=True)}"' for label, text in labels.items())
        self._lines.append(f"{name}{{{inner}}} {value}\n" if inner else f"{name} {value}\n")


def _escaped(text: str, *, quoted: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quoted else text
