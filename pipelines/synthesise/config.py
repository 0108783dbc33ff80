"""How large a synthetic shop is, and when it trades."""

from dataclasses import dataclass, fields
from datetime import date, timedelta

# Users are drawn in blocks, and one alone must not be more than fits comfortably in memory.
_MOST_EVENTS = 10_000  # of a user, on average

_MOST = (1 << 31) - 1  # users, items: their numbers are int32


@dataclass(frozen=True, kw_only=True)
class CatalogueConfig:
    """Size, dates and seed of a synthetic shop; the same value gives the same rows, always.

    Attributes:
        users: Number of users; each has at least one event when ``interactions >= users``.
        items: Number of items over the whole period, retired ones included.
        interactions: Number of rows of all event types together, met exactly.
        days: Number of trading days, the last of which is ``last_day``.
        last_day: Last trading day (UTC).
        seed: Seed of every draw, not negative.

    Raises:
        ValueError: A number is out of bounds, or the period starts before 2000.
    """

    users: int
    items: int
    interactions: int
    days: int
    last_day: date
    seed: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "seed" else 1
            if isinstance(value, int) and value < least:
                raise ValueError(
                    f"{field.name} of the synthetic catalogue is {value}; give {least} or more."
                )
        for name, value in (("users", self.users), ("items", self.items)):
            if value > _MOST:
                raise ValueError(
                    f"{name} of the synthetic catalogue is {value}; give {_MOST} or fewer."
                )
        if self.interactions > self.users * _MOST_EVENTS:
            raise ValueError(
                f"{self.interactions} interactions of the synthetic catalogue are more than "
                f"{_MOST_EVENTS} for each of {self.users} users; give more users or fewer "
                "interactions."
            )
        if self.days > (self.last_day - date(2000, 1, 1)).days + 1:
            raise ValueError(
                f"{self.days} days up to {self.last_day} of the synthetic catalogue start before "
                "2000-01-01, which no event may; give fewer days or a later last_day."
            )

    @property
    def first_day(self) -> date:
        """First trading day (UTC)."""
        return self.last_day - timedelta(days=self.days - 1)
