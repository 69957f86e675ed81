"""`python -m bench [row…]`: run the rows, print one Markdown table, append JSON lines to bench/results/."""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence

from bench import beside, flows, hub, intake, replays, serving, start, tables, track, volume
from bench.measure import FOREIGN
from bench.place import ENVIRONMENTS, RESULTS, ROOT, Unavailable, environment, machine
from bench.table import HEAD, Row, append_lines

ROWS: dict[str, tuple[Callable[[int, Sequence[str]], list[Row]], int, int]] = {
    # name: (row, rounds, rounds with --quick)
    "help": (start.help_text, 5, 2),
    "noop": (flows.noop, 5, 1),
    "fan": (flows.fan, 5, 1),
    "unchanged": (flows.unchanged, 5, 1),
    "frame": (flows.frame, 3, 1),
    "stale": (flows.stale, 1, 1),
    "build": (tables.build, 7, 3),
    "replay": (replays.replay, 3, 1),
    "again": (replays.again, 5, 2),
    "branch": (replays.branch, 5, 2),
    "diff": (replays.diff, 5, 2),
    "memory": (replays.memory, 1, 1),
    "batches": (intake.batches, 5, 2),
    "segment": (intake.segment, 5, 2),
    "singles": (intake.singles, 5, 2),
    "pages": (hub.pages, 5, 2),
    "idle": (hub.idle, 5, 2),
    "live": (hub.live, 5, 2),
    "track": (track.track, 5, 1),
    "server": (track.track_hub, 5, 1),
    "serve": (serving.serve, 3, 1),
    "beside": (beside.beside, 3, 1),
    "volume": (volume.volume, 5, 1),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="just bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="row", help=f"of {', '.join(ROWS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: a look, not a figure")
    parser.add_argument("--rounds", type=int, help="rounds of every row")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="contenders whose name holds this")
    parser.add_argument("--setup", action="store_true", help="only install the peers")
    chosen = parser.parse_args()
    if unknown := [name for name in chosen.rows if name not in ROWS]:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if chosen.setup:
        return _set_up()
    if chosen.quick:
        intake.SECONDS = intake.QUICK_SECONDS
    facts = {"machine": machine(), "quick": chosen.quick, "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    path = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.jsonl"
    append_lines(path, [json.dumps(facts)])
    print(f"On {facts['machine']}\n\n{chr(10).join(HEAD)}", flush=True)
    missed = False
    for name in chosen.rows or ROWS:
        measure, rounds, quick_rounds = ROWS[name]
        began, load = time.monotonic(), os.getloadavg()[0]
        for row in measure(chosen.rounds or (quick_rounds if chosen.quick else rounds), chosen.only):
            print("\n".join(row.markdown()), flush=True)
            append_lines(path, row.json())
            missed = missed or any("MISSED" in verdict for verdict in row.verdicts())
        others = statistics.median(FOREIGN) if FOREIGN else 0.0
        FOREIGN.clear()
        took = {"row": name, "seconds": round(time.monotonic() - began, 1), "load": load, "others": round(others, 2)}
        append_lines(path, [json.dumps(took)])
        disturbed = f"; DISTURBED: others kept {others:.1f} processors busy" if others > 0.2 else ""
        print(f"{name}: {took['seconds']:.0f} s, load before {load:.1f}{disturbed}", file=sys.stderr)
    versions = {name: each.versions() for name, each in ENVIRONMENTS.items() if each.folder.exists()}
    append_lines(path, [json.dumps({"versions": versions})])
    print(f"\nEach value is the median of the rounds. Lines: {path.relative_to(RESULTS.parent.parent)}. Peers:")
    print("; ".join(f"{name} {version}" for each in versions.values() for name, version in list(each.items())[:1]))
    return 1 if missed else 0


def _set_up() -> int:
    code = 0
    for name in ENVIRONMENTS:
        try:
            print(name, environment(name).versions(), flush=True)
        except Unavailable as reason:
            print(name, reason, flush=True)
            code = 1
    print(f"peers live in {ROOT}")
    return code


if __name__ == "__main__":
    sys.exit(main())
