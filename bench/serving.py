"""Rows about predictions over HTTP: the same model for everybody, its answers checked before anything is timed.

One server is up at a time, each started anew in every round. Single rows and batches of 64 come over 16 connections as
fast as they are answered; then single rows at half the rate that this server has just reached. Sampan's figures of that
are taken with a canary on, which gets the first 5 % of the requests; what it does without one stands beside them.
"""

import shutil
from collections.abc import Sequence

from bench import intake
from bench.measure import Result, WentWrong, memory_of
from bench.place import Unavailable
from bench.servers import ONNX, SERVERS, SKLEARN, Sampan, Server
from bench.table import OURS, Goal, Row, at_most, times

CONNECTIONS = 16
_BATCH = 64
_FLOOR = {ONNX: 0.5, SKLEARN: 0.7}
_FORMS = {ONNX: "ONNX", SKLEARN: "scikit-learn"}
_CANARY = "share = 0.05"
_LOADS = ("singles", "batches", "p99")  # what a canary bears on
_FIGURES = {
    "singles": (f"predictions, single rows, {CONNECTIONS} connections", "requests/s"),
    "batches": (f"predictions, batches of {_BATCH}, {CONNECTIONS} connections", "requests/s"),
    "p99": ("predictions, single rows at half load: p99", "ms"),
    "start": ("serving: start to first answer", "s"),
    "memory": ("serving one model, after the load: memory", "MB"),
}


def serve(rounds: int, only: Sequence[str]) -> list[Row]:
    """Requests a second, p99, start and memory of every server, with both forms of the model."""
    if shutil.which("wrk") is None:
        missing = Result(OURS, note="wrk is not installed (Debian: apt-get install wrk)")
        return [_row("singles", form, [missing]) for form in _FORMS]
    chosen = [each for each in SERVERS if not only or any(word.lower() in each[1].name.lower() for word in only)]
    found = {
        (form, name): {figure: Result(name) for figure in figures}
        for form, kind in chosen
        for name, figures in _reported(kind).items()
    }
    left = list(chosen)
    for number in range(rounds):
        turn = number % len(left) if left else 0
        for form, kind in left[turn:] + left[:turn]:
            own = [found[form, name] for name in _reported(kind)]
            try:
                measured = _round(kind, form)
            except (Unavailable, WentWrong) as reason:
                left.remove((form, kind))
                for result in [result for results in own for result in results.values()]:
                    result.values.clear()
                    result.note = str(reason)
                continue
            for results, values in zip(own, measured, strict=True):
                results["p99"].note = f"at {values.pop('rate'):,.0f} requests/s"
                for figure, value in values.items():
                    results[figure].values.append(value)
    return [
        _row(figure, form, [each[figure] for (of, _), each in found.items() if of == form and figure in each])
        for figure in _FIGURES
        for form in _FORMS
    ]


def _reported(kind: type[Server]) -> dict[str, tuple[str, ...]]:
    """What is reported of a server, by whose it is in the table, in the order of ``_round``."""
    figures = tuple(_FIGURES)
    return {kind.name: figures, f"{kind.name}, no canary": _LOADS} if kind is Sampan else {kind.name: figures}


def _round(kind: type[Server], form: str) -> list[dict[str, float]]:
    """One server from its start to its end: its figures; Sampan's with a canary and, after them, those without.

    Raises Unavailable, WentWrong.
    """
    with kind(form) as server:
        server.check()
        found = _loads(server)
        memory, _ = memory_of(server.process.pid) if server.process else (0, 0)
        once = {"start": server.seconds, "memory": memory / 1e6}
        if not isinstance(server, Sampan):
            return [found | once]
        server.begin(_CANARY, "--model", f"{form}_again")
        beside = _loads(server)
        if (phase := server.phase()) != "running":
            raise WentWrong(f"the rollout is {phase}")
        return [beside | once, found]


def _loads(server: Server) -> dict[str, float]:
    singles = loaded(server, 1)
    batches = loaded(server, _BATCH)
    half = loaded(server, 1, singles["rate"] / 2)
    return {"singles": singles["rate"], "batches": batches["rate"], "p99": half["p99"], "rate": half["rate"]}


def loaded(server: Server, size: int, rate: float = 0.0) -> dict[str, float]:
    """Requests of so many rows, at a rate or as fast as they are answered: ``requests``, ``seconds``, ``rate``,
    ``p99``.

    Raises WentWrong if one was refused, or not kept by a server that keeps them.
    """
    bodies, said = server.bodies(size), {"TARGET": server.target}
    if rate:
        said["RATE"] = str(rate)
    else:
        intake._load(server, bodies, CONNECTIONS, 1, said, "steady.lua")  # warms it up
    before = server.stored() if server.keeps else 0
    seen = intake._load(server, bodies, CONNECTIONS, intake.SECONDS, said, "steady.lua")
    if seen["errors"]:
        raise WentWrong(f"{seen['errors']:.0f} of {seen['requests']:.0f} requests went wrong")
    kept, acknowledged = server.stored() - before if server.keeps else 0, int(seen["requests"]) * size
    # what was under way when wrk stopped is kept without having been counted
    if server.keeps and not acknowledged <= kept <= acknowledged + CONNECTIONS * size:
        raise WentWrong(f"acknowledged {acknowledged:,} predictions, kept {kept:,}")
    return {**seen, "rate": seen["requests"] / seen["seconds"]}


def _row(figure: str, form: str, results: Sequence[Result]) -> Row:
    title, unit = _FIGURES[figure]
    return Row(f"serve-{figure}-{form}", f"{title} ({_FORMS[form]})", unit, results, _goals(figure, form))


def _goals(figure: str, form: str) -> list[Goal]:
    if figure in ("singles", "batches"):
        # BentoML with the same form of the model, so that no win is only ONNX's
        against = [times("BentoML", 10, least=True)] if form == ONNX and figure == "singles" else []
        return [times("floor", _FLOOR[form], least=True), *against]
    if figure == "p99":
        return [times("floor", 1.5, least=False)]
    return [at_most(2, "s") if figure == "start" else at_most(200, "MB")]
