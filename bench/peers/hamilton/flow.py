"""Hamilton; with CACHE=1 in the environment its cache is on."""

import os
import sys

import fan
import frame
import linear
import long
from hamilton import driver
from hamilton.execution import executors

job = sys.argv[1]
module, wanted, inputs = {
    "linear": (linear, "e", {"path": "input.txt"}),
    "long": (long, "s19", {"start": 0}),
    "fan": (fan, "total", {"n": int(sys.argv[-1])} if job == "fan" else {}),
    "frame": (frame, "used", {"rows": int(sys.argv[-1])} if job == "frame" else {}),
}[job]
builder = driver.Builder().with_modules(module)
if job == "fan":
    builder = builder.enable_dynamic_execution(allow_experimental_mode=True)
    builder = builder.with_remote_executor(executors.MultiThreadingExecutor(2))
if os.environ.get("CACHE"):
    builder = builder.with_cache(path="cache")
print("RESULT", builder.build().execute([wanted], inputs=inputs)[wanted])
