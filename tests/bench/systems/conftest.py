"""The peers import what only their own environments have; nothing here is a test."""

from __future__ import annotations

collect_ignore_glob = ["*.py"]
