"""Liveness check, ``python -m audiotricks.probe``: exit status 0 when the local web server responds, also with a 503,
whose cause a restart would not repair.
"""

import http.client
import os
import sys


def main() -> int:
    client = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("PORT") or 8000), timeout=8)
    try:
        client.request("GET", "/health")
        status = client.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"no answer: {error}\n")
        return 1
    if status >= http.client.INTERNAL_SERVER_ERROR and status != http.client.SERVICE_UNAVAILABLE:
        sys.stderr.write(f"/health answers {status}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
