-- wrk: POST the bodies of $BODIES in turn; with $RATE that many requests a second in all, else as many as are answered.
local bodies = {}
for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end

local headers = { ["Content-Type"] = "application/json", ["Authorization"] = os.getenv("AUTHORIZATION") }
local target, rate = os.getenv("TARGET"), tonumber(os.getenv("RATE") or "")
local count = 0

request = function()
  count = count + 1
  return wrk.format("POST", target, headers, bodies[count % #bodies + 1])
end

if rate then
  local ffi = require("ffi")
  ffi.cdef("typedef struct { long seconds, nanoseconds; } moment; int clock_gettime(int, moment *);")
  local at, due = ffi.new("moment"), nil
  -- Milliseconds until the next request's turn. wrk waits whole ones: which way a fraction goes is left to chance.
  delay = function()
    ffi.C.clock_gettime(1, at)
    local now = (tonumber(at.seconds) * 1e9 + tonumber(at.nanoseconds)) / 1e6
    due = math.max((due or now) + 1000 / rate, now - 100)
    return math.max(0, math.floor(due - now + math.random()))
  end
end

done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('JSON {"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
