"""Tracking numbers of the Universal Postal Union's standard S10, like `RR 4731 2482 9 GB`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

_S10 = re.compile(r"[A-Z]{2}([0-9]{8})([0-9])[A-Z]{2}")
_WEIGHTS = (8, 6, 4, 2, 3, 5, 9, 7)


def check_digit(serial: str) -> int:
    """The ninth digit that belongs to eight others (S10, modulo 11 with weights)."""
    rest = 11 - sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, serial, strict=True)) % 11
    return {10: 0, 11: 5}.get(rest, rest)


def _checked(number: str) -> str:
    number = "".join(number.split()).upper()  # people write them in groups
    match = _S10.fullmatch(number)
    if not match:
        raise ValueError("not a tracking number: two letters, nine digits, two letters")
    if check_digit(match[1]) != int(match[2]):
        raise ValueError(f"mistyped tracking number: the check digit of {match[1]} is not {match[2]}")
    return number


TrackingNumber = Annotated[str, AfterValidator(_checked)]
"""A string that a pydantic model checks and brings into its plain form."""
