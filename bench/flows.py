"""Rows about flows: five no-op steps, 200 tasks, nothing changed, a 100 MB frame, and who is right after a change."""

from collections.abc import Sequence
from functools import partial

from bench.engines import ENGINES, Place
from bench.measure import Result, Timed, WentWrong, alternate
from bench.place import Unavailable
from bench.table import OURS, Goal, Row, at_least, at_most

FRAME_ROWS = 1_250_000  # of ten float64 columns: 100 MB
TASKS = {"Metaflow": 60}  # engines that need long for 200: their rate is taken over fewer


def noop(rounds: int, only: Sequence[str]) -> list[Row]:
    """Five steps that do nothing, all of which must run: each round has new code and a new input."""

    def prepare(name: str) -> Timed:
        place = Place(ENGINES[name], "linear")
        place.run()

        def timed(number: int) -> float:
            place.edit(f"+ {number + 1}  # STEP", f"+ {number + 2}  # STEP")
            place.write_input(1000 + number)
            finished = place.run()
            # Engines whose cache misses the changed file skip what they should run; they are timed without it.
            if place.ran != list("abcde"):
                raise WentWrong(f"ran {''.join(place.ran) or 'nothing'}, not abcde")
            return finished.seconds

        return timed

    names = _chosen(["Sampan", "Hamilton", "redun", "Metaflow", "ZenML, cache off", "Prefect", "Dagster"], only)
    results = alternate({name: partial(prepare, name) for name in names}, rounds)
    return [Row("noop", "five-step no-op flow, whole process", "s", results, [at_most(0.65, "s")])]


def fan(rounds: int, only: Sequence[str]) -> list[Row]:
    """Tasks that square a number, and one that adds up their results."""

    def prepare(name: str) -> Timed:
        place = Place(ENGINES[name], "fan")
        place.run(3)

        def timed(number: int) -> float:
            tasks = TASKS.get(name, 200) + number  # another number each round, so that no cache has the total
            if name in ("Sampan", "redun"):
                place.edit("item * item", "item * item * 1")  # these would know each item's square
            finished = place.run(tasks)
            if str(sum(item * item for item in range(tasks))) not in finished.output + " ".join(place.ran):
                raise WentWrong("the sum is wrong")
            return tasks / finished.seconds

        return timed

    names = _chosen(["Sampan", "Hamilton", "redun", "Prefect", "Metaflow"], only)
    results = alternate({name: partial(prepare, name) for name in names}, rounds)
    return [Row("fan", "200 tasks fanned out and joined", "tasks/s", results, [at_least(250, "tasks/s")])]


def unchanged(rounds: int, only: Sequence[str]) -> list[Row]:
    """A second run of 20 steps of which none has anything to do."""

    def prepare(name: str) -> Timed:
        place = Place(ENGINES[name], "long")
        place.run()
        if len(place.ran) != 20:
            raise WentWrong(f"the first run ran {len(place.ran)} steps, not 20")

        def timed(_: int) -> float:
            finished = place.run()
            if place.ran:
                raise WentWrong(f"ran {len(place.ran)} steps although nothing had changed")
            return finished.seconds

        return timed

    names = _chosen(["Sampan", "Hamilton + cache", "redun", "ZenML", "Prefect + cache"], only)
    results = alternate({name: partial(prepare, name) for name in names}, rounds)
    return [Row("unchanged", "nothing changed, 20 steps, whole process", "s", results, [at_most(0.3, "s")])]


def frame(rounds: int, only: Sequence[str]) -> list[Row]:
    """A frame of 100 MB from one step to the next: what it adds to the run, less what computing it costs."""

    def prepare(name: str) -> Timed:
        place = Place(ENGINES[name], "frame")
        bare = Place(ENGINES["plain Python"], "frame", f"-beside-{name}".replace(" ", "-"))
        place.run(10)
        bare.run(10)

        def timed(number: int) -> float:
            with_frame = place.run(FRAME_ROWS + number).seconds
            without = place.run(11 + number).seconds
            compute = bare.run(FRAME_ROWS + number).seconds - bare.run(11 + number).seconds
            return with_frame - without - compute

        return timed

    names = _chosen(["Sampan", "redun", "Hamilton + cache", "Metaflow", "ZenML"], only)
    results = alternate({name: partial(prepare, name) for name in names}, rounds)
    return [Row("frame", "100 MB frame from step to step, over compute", "s", results, [at_most(0.5, "s")])]


RIGHT = {"nothing": "", "comment": "", "helper": "cde", "input": "abcde"}
CHANGES = {
    "comment": "a comment in step c",
    "helper": "a helper that c calls",
    "input": "the input file",
}


def stale(rounds: int, only: Sequence[str]) -> list[Row]:
    """Which of the steps a…e run again after a change. Not a time: the value is how many of three are right."""
    del rounds
    results = []
    for name in _chosen(["Sampan", "redun", "ZenML", "Prefect + cache", "Hamilton + cache"], only):
        result = Result(name)
        try:
            seen = _after_changes(Place(ENGINES[name], "linear", "-stale"))
        except (Unavailable, WentWrong) as reason:
            result.note = str(reason)
        else:
            right = [change for change in CHANGES if seen[change] == RIGHT[change]]
            result.values.append(len(right))
            result.note = "; ".join(
                f"{CHANGES[change]}: {'right' if change in right else 'WRONG'}, ran {seen[change] or 'nothing'}"
                for change in CHANGES
            )
            result.facts["ran"] = seen
        results.append(result)
    goal = Goal("right in all three", lambda medians: medians[OURS] == 3)
    return [Row("stale", "after a change: right reruns of 3", "right", results, [goal])]


def _after_changes(place: Place) -> dict[str, str]:
    place.run()
    seen = {}

    def again(change: str) -> None:
        place.run()
        seen[change] = "".join(place.ran)

    again("nothing")
    place.edit("# STEP", "# STEP, said differently")
    again("comment")
    place.edit("value + 1  # RULE", "value + 2  # RULE")
    again("helper")
    place.write_input(50)
    again("input")
    return seen


def _chosen(names: list[str], only: Sequence[str]) -> list[str]:
    return [name for name in names if not only or any(word.lower() in name.lower() for word in only)]
