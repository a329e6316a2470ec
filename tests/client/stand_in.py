"""A probe of a few lines that speaks the contract and misbehaves on request; runs on Python 3.6.

Sections named after a misbehaviour make it happen: `exit`, `slow`, `sleep_ignoring_term`, `stderr_flood`.
The section `load` is answered honestly, everything else is missing.
"""

import json
import os
import sys
import time

out = sys.stdout.buffer
version = ".".join(str(part) for part in sys.version_info[:3])
out.write(b"\x1ehomelab_monitor 1 %s %d\n" % (version.encode(), os.getpid()))
out.flush()

for line in sys.stdin.buffer:
    request = json.loads(line.decode())
    wanted = request["sections"]
    if "exit" in wanted:
        sys.exit(3)
    if "crash" in wanted:
        raise RuntimeError("the sensor is on fire")
    if "stderr_flood" in wanted:
        for _ in range(1000):
            sys.stderr.write("x" * 100000)
    if "flood" in wanted:
        for _ in range(1000):
            out.write(b"x" * 100000)
    if "slow" in wanted:
        time.sleep(1.0)
    reply = {
        "id": request["id"],
        "protocol": 1,
        "boot_id": "boot",
        "epoch": time.time(),
        "sections": {"load": {"load1": 0.5, "load5": 0.25, "load15": 0.125}} if "load" in wanted else {},
        "missing": {name: "not_supported" for name in wanted if name != "load"},
        "errors": {},
        "seconds": {},
    }
    payload = json.dumps(reply).encode()
    out.write(b"\x1e%s %d j\n%s" % (request["id"].encode(), len(payload), payload))
    out.flush()
