"""The periods of budgets: which one a moment lies in, by the calendar in UTC (pure)."""

import datetime as dt
from typing import Literal

Period = Literal["hour", "day", "month", "total"]


def period_start(period: Period, unix_s: float) -> float:
    """Return when the period around a moment began, in Unix seconds; `total` began with the epoch."""
    if period == "total":
        return 0.0
    moment = dt.datetime.fromtimestamp(unix_s, dt.UTC).replace(minute=0, second=0, microsecond=0)
    if period in ("day", "month"):
        moment = moment.replace(hour=0)
    if period == "month":
        moment = moment.replace(day=1)
    return moment.timestamp()


def next_start(period: Period, unix_s: float) -> float | None:
    """Return when the next period begins; None for `total`."""
    if period == "total":
        return None
    start = period_start(period, unix_s)
    longest_s = {"hour": 3600, "day": 86_400, "month": 31 * 86_400}[period]
    return period_start(period, start + longest_s)
