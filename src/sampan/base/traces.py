"""Traces by OpenTelemetry, if somebody has asked for them: requests, runs and their steps as spans.

They are on when the environment says where spans go, as OpenTelemetry's own variables do: OTEL_TRACES_EXPORTER,
OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT. Without them nothing of it is imported.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from sampan.base.errors import Usage

_ASKED: Final = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Traces:
    """Makes spans. Without a provider it makes none, for next to nothing."""

    def __init__(self, provider: Any = None) -> None:
        self._provider = provider
        self._tracer = None if provider is None else provider.get_tracer("sampan")

    @property
    def on(self) -> bool:
        return self._tracer is not None

    @contextmanager
    def span(self, name: str, facts: Mapping[str, Any] | None = None, parent: str = "") -> Iterator[Any]:
        """A span around what happens inside; an exception marks it as failed. ``parent`` is a ``traceparent``."""
        if self._tracer is None:
            yield None
            return
        with self._tracer.start_as_current_span(name, _parent(parent), attributes=dict(facts or {})) as span:
            yield span

    def past(self, name: str, seconds: float, facts: Mapping[str, Any], error: str = "") -> None:
        """A span for what has just ended, within the one that is going on."""
        if self._tracer is None:
            return
        end = time.time_ns()
        span = self._tracer.start_span(name, attributes=dict(facts), start_time=end - round(seconds * 1e9))
        if error:
            self.fail(span, error)
        span.end(end)

    @staticmethod
    def fail(span: Any, error: str) -> None:
        """Mark a span as failed."""
        if span is not None:
            from opentelemetry.trace import Status, StatusCode

            span.set_status(Status(StatusCode.ERROR, error[:300]))

    def close(self) -> None:
        """Send what has not been sent yet."""
        if self._provider is not None:
            self._provider.shutdown()


def _parent(text: str) -> Any:
    if not text:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": text})


def from_environment(environ: Mapping[str, str] | None = None) -> Traces:
    """Traces as the environment asks for them. Raises Usage if it asks and the extra is not installed."""
    environ = os.environ if environ is None else environ
    wanted = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or wanted == "none"
    if off or not any(environ.get(name) for name in _ASKED):
        return Traces()
    try:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
    except ModuleNotFoundError:
        raise Usage(
            "Send traces", "OpenTelemetry is not installed", "pip install 'sampan[otel]', or unset the OTEL_ variables."
        ) from None
    exporter: SpanExporter
    if wanted in ("", "otlp"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter()
    elif wanted == "console":
        import sys

        exporter = ConsoleSpanExporter(out=sys.stderr)
    else:
        raise Usage("Send traces", f"OTEL_TRACES_EXPORTER is {wanted!r}", "Known: otlp, console, none.")
    from opentelemetry.sdk.resources import Resource

    provider = TracerProvider(resource=Resource.create({"service.name": environ.get("OTEL_SERVICE_NAME", "sampan")}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Traces(provider)
