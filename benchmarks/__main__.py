"""Run every benchmark, each in a process of its own, and print one table. The exit code is 1 for a missed target."""

import json
import os
import subprocess
import sys

from benchmarks.figures import AS_JSON, Figure, table

ALL = (
    *(
        "upload",
        "resumable",
        "storage",
        "object_storage",
        "listing",
        "admin",
        "small_requests",
        "slow_clients",
        "reserve",
    ),
    *("sqlite_bulk", "import_small", "transitions"),
)


def main() -> int:
    figures: list[Figure] = []
    failed = False
    for name in ALL:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", f"benchmarks.{name}"],
            env={**os.environ, AS_JSON: "1"},
            stdout=subprocess.PIPE,
            check=False,
        )
        lines = run.stdout.splitlines()
        if lines:
            figures += [Figure(**figure) for figure in json.loads(lines[-1])]
        else:
            print(f"{name} gave no figures", file=sys.stderr)
        failed = failed or run.returncode != 0
    print(table(figures))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
