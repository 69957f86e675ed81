-- wrk: POST the bodies of $BODIES in turn, each event with an id that was never sent before.
-- A body is one line; "@@" stands where the request's own part of each id goes. With $TARGET to that path, as an
-- object that says when it was sent.
local bodies = {}
for line in io.lines(os.getenv("BODIES")) do
  local pieces = {}
  local from = 1
  while true do
    local at = line:find("@@", from, true)
    pieces[#pieces + 1] = line:sub(from, at and at - 1)
    if not at then break end
    pieces[#pieces + 1] = ""
    from = at + 2
  end
  bodies[#bodies + 1] = pieces
end

local source = io.open("/dev/urandom", "rb")
local a, b, c, d, e, f = source:read(6):byte(1, 6)
source:close()
math.randomseed(((a * 256 + b) * 256 + c) * 256 + d)
local run, count = e * 256 + f, 0

local headers = { ["Content-Type"] = "application/json", ["Authorization"] = os.getenv("AUTHORIZATION") }
local target = os.getenv("TARGET")
local format, random, floor = string.format, math.random, math.floor

request = function()
  count = count + 1
  -- Looks like a random UUID less its last eight digits; run and counter make it unique.
  local own = format("%08x-%04x-4%03x-a%03x-%04x", random(0, 4294967295), run,
    floor(count / 268435456) % 4096, floor(count / 65536) % 4096, count % 65536)
  local pieces = bodies[count % #bodies + 1]
  for place = 2, #pieces, 2 do pieces[place] = own end
  local body = table.concat(pieces)
  if target then body = body:sub(1, -2) .. os.date('!,"sentAt":"%Y-%m-%dT%H:%M:%SZ"}') end
  return wrk.format("POST", target or "/v1/events", headers, body)
end

done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(format('JSON {"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
