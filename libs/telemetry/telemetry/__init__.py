"""What a service says about itself: logs as JSON lines, counters as Prometheus text."""

from telemetry.counters import Counters
from telemetry.log import Logger, logger

__all__ = ["Counters", "Logger", "logger"]
