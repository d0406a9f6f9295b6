-- wrk: POST /events, DEPTH requests pipelined (default 1), BATCH events a request (default 1).
local depth = tonumber(os.getenv("DEPTH") or "1")
local batch = tonumber(os.getenv("BATCH") or "1")
local request_text

init = function()
  local event = '{"type":"order.created","stream":"bench","data":{"total":12.5,"item":"A-17"}}'
  local body = event
  local kind = "application/json"
  if batch > 1 then
    body = string.rep(event .. "\n", batch)
    kind = "application/x-ndjson"
  end
  local one = wrk.format("POST", "/events", {["content-type"] = kind}, body)
  request_text = string.rep(one, depth)
end

request = function() return request_text end
