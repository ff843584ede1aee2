"""Amounts of money as whole billionths of the currency (pure)."""

from decimal import ROUND_HALF_EVEN, Decimal

NANO = 1_000_000_000


def to_nano(amount: float) -> int:
    """Return an amount that a person wrote, such as 2.5, in billionths."""
    return int((Decimal(str(amount)) * NANO).to_integral_value(ROUND_HALF_EVEN))


def to_text(nano: int) -> str:
    """Return an amount as a decimal number without an exponent, such as `0.00000125`; JSON takes it as a number."""
    sign = "-" if nano < 0 else ""
    whole, part = divmod(abs(nano), NANO)
    fraction = f"{part:09d}".rstrip("0")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"
