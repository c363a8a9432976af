"""Publish a file of CloudEvents to Kafka, at the pace at which they happened or another."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from connectors.clock import Clock, SystemClock
from connectors.kafka.replay_producer import ReplayProducer
from flows.lines import EX_DATAERR, Faults, LineFile
from flows.structured_event import Envelope, read_event
from schemas.errors import ConfigError
from schemas.ticket import parse_time
from schemas.topics_catalog import Topic, load_topics
