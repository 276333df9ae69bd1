"""Whether the packets of a WMA file have one size and begin alike (ASF 5.2.1)."""

from typing import BinaryIO

from media.sound import read_at

FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
DATA_HEADER_BYTES = 50
MAX_HEADER_BYTES = 1024**2
PACKET_START_BYTES = 64


def broken_packets(file: BinaryIO, size: int) -> tuple[list[int], int]:
    """The lengths of runs of broken packets, and the number of packets."""
    header_size = int.from_bytes(read_at(file, 16, 8), "little")
    header = read_at(file, 0, min(header_size, MAX_HEADER_BYTES))
    found = header.find(FILE_PROPERTIES)
    if found < 0:
        return [], 0
    packet_size = int.from_bytes(header[found + 92 : found + 96], "little")
    length = int.from_bytes(read_at(file, header_size + 16, 8), "little")
    end = min(size, header_size + length) if length > DATA_HEADER_BYTES else size
    at = header_size + DATA_HEADER_BYTES
    first = read_at(file, at, 1)
    if packet_size < PACKET_START_BYTES or header[found + 96 : found + 100] != header[found + 92 : found + 96]:
        return [], 0
    runs: list[int] = []
    run = packets = 0
    for start_at in range(at, end - packet_size + 1, packet_size):
        file.seek(start_at)
        start = file.read(PACKET_START_BYTES)
        packets += 1
        if start[:1] == first and any(start[1:]):
            if run:
                runs.append(run)
            run = 0
        else:
            run += 1
    return ([*runs, run] if run else runs), packets
