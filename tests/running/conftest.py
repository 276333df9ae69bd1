import io
import math
import wave
from array import array

import pytest


@pytest.fixture(scope="session")
def wav_bytes() -> bytes:
    """One second of a tone."""
    samples = array("h", (int(9000 * math.sin(2 * math.pi * 440 * index / 8000)) for index in range(8000)))
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(samples.tobytes())
    return target.getvalue()
