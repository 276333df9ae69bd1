"""``python -m audiotricks.probe``: exit status 0 when the web server of this machine answers.

A liveness check: a 503 from ``/health`` counts as an answer, since a restart of the web server would not repair its
cause.
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
