"""Both digests of a stream, however it was cut."""

import hashlib
import random

import pytest

from objectstore.hashing import PARALLEL_FROM_BYTES, WAITING_PIECES, digest_of

LARGE, SMALL = PARALLEL_FROM_BYTES, 1000
MANY = 3 * WAITING_PIECES


@pytest.mark.parametrize(
    "sizes",
    [[], [0], [SMALL] * 3, [LARGE] * MANY, [LARGE, SMALL] * MANY, [LARGE] * MANY + [SMALL, SMALL] + [LARGE - 1, LARGE]],
)
def test_digests_are_those_of_the_whole(sizes: list[int]) -> None:
    noise = random.Random(1)
    pieces = [noise.randbytes(size) for size in sizes]
    whole = b"".join(pieces)

    digests = digest_of(pieces)

    assert digests.size == len(whole)
    assert digests.sha256 == hashlib.sha256(whole).hexdigest()
    assert digests.md5 == hashlib.md5(whole).hexdigest()
