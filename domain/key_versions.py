"""What the id of a key says: `kek/ballot/2026-11-23/1` is the first that was made for its purpose on that day."""

from datetime import UTC, date, datetime, time, timedelta


def made_at(key_id: str) -> datetime:
    """Return the beginning of the day (UTC) on which a key was made. Raises ValueError where this is no key id."""
    return datetime.combine(date.fromisoformat(key_id.split("/")[-2]), time(), UTC)


def is_due(key_id: str, now: datetime, age: timedelta) -> bool:
    """Tell whether a key has reached an age."""
    return now >= made_at(key_id) + age
