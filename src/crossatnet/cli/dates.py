"""Dates as people write them: 2019, 2019-07, 2019-07-14, yesterday, 3 months ago, and spans of them."""

import re
from datetime import datetime, timedelta

from crossatnet.system.errors import UserError

AGO = re.compile(r"(\d{1,4}|an?|one)\s+(day|week|month|year)s?(\s+ago)?", re.IGNORECASE)
PARTIAL = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?")
HOW = "write 2019, 2019-07, 2019-07-14, yesterday, or 3 months ago"


def moment(text: str, option: str, now: datetime | None = None) -> datetime:
    """The first moment of a date. Raises `UserError`, which names the option.

    Example:
        >>> from datetime import datetime
        >>> from crossatnet.cli.dates import moment
        >>> moment("3 months ago", "--since", now=datetime(2026, 11, 28))
        datetime.datetime(2026, 8, 28, 0, 0)
    """
    return _span(text, option, now)[0]


def period(text: str, option: str, now: datetime | None = None) -> tuple[datetime | None, datetime | None]:
    """A span of time, its end not included: of one date, or of two with dots between, where one may be missing.

    Example:
        >>> from datetime import datetime
        >>> from crossatnet.cli.dates import period
        >>> period("2019..2020-06", "--taken")
        (datetime.datetime(2019, 1, 1, 0, 0), datetime.datetime(2020, 7, 1, 0, 0))
    """
    first, dots, last = text.partition("..")
    if not dots:
        return _span(text, option, now)
    since = _span(first, option, now)[0] if first.strip() else None
    before = _span(last, option, now)[1] if last.strip() else None
    if since is None and before is None:
        raise UserError(f"{option} {text}: no date; {HOW}, or two of them with .. between")
    if since and before and since >= before:
        raise UserError(f"{option} {text}: ends before it begins; write the earlier date first")
    return since, before


def _span(text: str, option: str, now: datetime | None) -> tuple[datetime, datetime]:
    """The first moment of a date, and the first after it."""
    plain = text.strip()
    today = (now or datetime.now()).replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        if plain.lower() in ("today", "yesterday"):
            day = today - timedelta(days=plain.lower() == "yesterday")
            return day, day + timedelta(days=1)
        if ago := AGO.fullmatch(plain):
            day = _before(today, int(ago[1]) if ago[1].isdigit() else 1, ago[2].lower())
            return day, day + timedelta(days=1)
        if partial := PARTIAL.fullmatch(plain):
            return _partial(*(int(part) if part else None for part in partial.groups()))
        exact = datetime.fromisoformat(plain)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{option} {text}: not a date; {HOW}") from error
    return exact, exact + timedelta(seconds=1)


def _before(day: datetime, number: int, unit: str) -> datetime:
    """The day so many days, weeks, months or years earlier; the last of a shorter month."""
    if unit in ("day", "week"):
        return day - timedelta(days=number * (7 if unit == "week" else 1))
    months = day.year * 12 + day.month - 1 - number * (12 if unit == "year" else 1)
    first = datetime(months // 12, months % 12 + 1, 1)
    return first + timedelta(days=min(day.day, (_next_month(first) - first).days) - 1)


def _partial(year: int | None, month: int | None, day: int | None) -> tuple[datetime, datetime]:
    first = datetime(year or 0, month or 1, day or 1)
    if month is None:
        return first, datetime(first.year + 1, 1, 1)
    return first, first + timedelta(days=1) if day else _next_month(first)


def _next_month(first: datetime) -> datetime:
    return datetime(first.year + first.month // 12, first.month % 12 + 1, 1)
