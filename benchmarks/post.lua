-- wrk: POST the prebuilt bodies of a folder in rotation. BODIES folder, TARGET path, AUTH header or empty, EXTRA "name: value" or empty.
local requests, next_request = {}, 0

function init(args)
  local headers = {["Content-Type"] = "application/octet-stream"}
  local auth, extra = os.getenv("AUTH"), os.getenv("EXTRA")
  if auth and auth ~= "" then headers["Authorization"] = auth end
  if extra and extra ~= "" then
    local name, value = extra:match("([^:]+): (.+)")
    headers[name] = value
  end
  local number = 0
  while true do
    local file = io.open(os.getenv("BODIES") .. "/" .. number .. ".bin", "rb")
    if not file then break end
    requests[#requests + 1] = wrk.format("POST", os.getenv("TARGET"), headers, file:read("*a"))
    file:close()
    number = number + 1
  end
end

function request()
  next_request = next_request % #requests + 1
  return requests[next_request]
end
