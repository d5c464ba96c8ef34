"""Logs for machines first: one JSON object a line, on stderr, so that stdout stays free for results."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog

Logger = structlog.typing.FilteringBoundLogger


def logger(service: str, level: str = "info", stream: TextIO | None = None) -> Logger:
    """A logger whose every line names the service, the level and the time (UTC, ISO 8601).

    Args:
        service: the name that goes into each line.
        level: `debug`, `info`, `warning` or `error`, in any case; less is left out.
        stream: where the lines go; stderr, as it is at the time of the call, unless told.

    Raises:
        ValueError: if there is no such level.
    """
    threshold = logging.getLevelNamesMapping().get(level.upper())
    if threshold is None:
        raise ValueError(f"unknown log level {level!r}")
    bound: Logger = structlog.wrap_logger(
        structlog.WriteLogger(stream or sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        service=service,
    )
    return bound
