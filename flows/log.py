"""Set up logging: one line an event, JSON unless a terminal reads it."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog


def set_up_log(form: str = "auto") -> None:
    """Send all log lines to standard output; `form` is `auto`, `json` or `text`."""
    as_text = form == "text" or (form == "auto" and sys.stdout.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if as_text else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=False,
    )
