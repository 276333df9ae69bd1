from dataclasses import dataclass

#: The longest window of a transfer while others wait for its thread: at most half the usual one, so that it ends before
#: their own time does.
PRESSED_SECONDS = 5.0


class TooSlow(TimeoutError):
    """Below the minimum rate for a whole window."""


@dataclass
class Demand:
    """Whether transfers of this process wait for a thread."""

    pressing: bool = False


class Pace:
    """``seconds`` times ``rate`` bytes must move in each ``seconds`` of waiting for the client; the server's own work
    does not count.
    """

    def __init__(self, rate: int, seconds: float, demand: Demand) -> None:
        self.rate = rate
        self.seconds = seconds
        self.demand = demand
        self.waited = 0.0
        self.moved = 0

    def note(self, waited: float, moved: int) -> None:
        """Raises TooSlow."""
        self.waited += waited
        self.moved += moved
        if self.waited < (min(PRESSED_SECONDS, self.seconds / 2) if self.demand.pressing else self.seconds):
            return
        if self.moved < self.waited * self.rate:
            raise TooSlow(f"{self.moved} bytes in {self.waited:.0f} seconds")
        self.waited, self.moved = 0.0, 0
