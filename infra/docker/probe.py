"""Ask the service in this container whether it is ready; exit 0 when it is. An image's health check, every few seconds:
it imports little, because a fresh interpreter pays for every import. What it prints, the engine keeps with the state.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException

TIMEOUT_S = 2.0

try:
    service = HTTPConnection("127.0.0.1", int(os.environ["PORT"]), timeout=TIMEOUT_S)
    service.request("GET", "/readyz")
    reply = service.getresponse()
    print(reply.status, reply.read().decode())
except (OSError, HTTPException) as why:
    sys.exit(f"no answer: {why}")
sys.exit(reply.status != 200)
