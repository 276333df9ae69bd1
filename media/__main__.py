"""``python -m media OPERATION PATH``: look into one file under limits, without Django.

The answer on standard output is one line of JSON and, behind it, the bytes of a picture, if there is one. The line is
``{"result": {...}}`` or ``{"error": {"code": ..., "reason": ...}}``. Every answer exits with 0; another status means
that the process broke.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from media.confinement import confine
from media.failure import Failure
from media.limits import apply_limits

Operation = Callable[[BinaryIO, str], tuple[dict[str, Any], bytes]]
# A decoder that meets hostile bytes raises anything; it is the file's fault, and standard error has the details.
UNFORESEEN = {
    "decode": ("undecodable_audio", "The audio cannot be decoded"),
    "facts": ("undecodable_audio", "The audio cannot be described"),
    "artwork": ("undecodable_audio", "The tags cannot be read"),
    "image": ("image_unreadable", "The image cannot be read"),
}
MEMORY_REASON = "The file takes more memory than decoding may use."


def main() -> None:
    arguments = parse_arguments()
    apply_limits(arguments.memory_bytes, arguments.seconds)
    perform = load(arguments.operation)
    file = Path(arguments.path).open("rb")  # noqa: SIM115 - open until the process ends
    confine()
    payload = b""
    answer: dict[str, Any]
    try:
        result, payload = perform(file, arguments.demuxer)
        answer = {"result": result}
    except Failure as failure:
        answer = {"error": {"code": failure.code, "reason": failure.reason}}
    except MemoryError:
        answer = {"error": {"code": "media_memory_limit", "reason": MEMORY_REASON}}
    except Exception as error:  # noqa: BLE001 - see UNFORESEEN
        traceback.print_exc()
        code, what = UNFORESEEN[arguments.operation]
        answer = {"error": {"code": code, "reason": f"{what}: {error or type(error).__name__}"}}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + payload)
    sys.stdout.buffer.flush()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m media", description=__doc__)
    parser.add_argument("operation", choices=sorted(UNFORESEEN))
    parser.add_argument("path")
    parser.add_argument("--demuxer", default="", help="FFmpeg's name of the format, for all but image")
    parser.add_argument("--memory-bytes", type=int, default=2 * 1024**3)
    parser.add_argument("--seconds", type=int, default=60)
    return parser.parse_args()


def load(operation: str) -> Operation:
    """One operation, with what it needs and no more: PyAV alone takes 70 ms to import."""
    if operation == "decode":
        from media.decode import check_decodable

        return lambda file, demuxer: (check_decodable(file, demuxer), b"")
    if operation == "facts":
        from media.chunk_tags import load_code_pages
        from media.facts import read_facts

        load_code_pages()
        return lambda file, demuxer: (read_facts(file, demuxer), b"")
    if operation == "artwork":
        from media.artwork import extract_artwork

        return extract_artwork
    from media.image import reencode_image

    return lambda file, demuxer: reencode_image(file)


if __name__ == "__main__":
    main()
