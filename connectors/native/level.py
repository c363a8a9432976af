"""Which level runs: pure Python, or the native library where it was built and works."""

from __future__ import annotations

import importlib
import math
from array import array
from functools import cache
from typing import Any, Final, Literal, NamedTuple

from confluent_kafka import Consumer, KafkaException, cimpl

from connectors.kafka.client import QUIET
from schemas.errors import ConfigError

Wish = Literal["auto", "pure", "native"]

_PLUGINS: Final = "plugin.library.paths"
_DIGITS: Final = 1e-6
_SAMPLE: Final = [("ce_id", b"1"), ("x", None), ("ce_id", b"")]


class Level(NamedTuple):
    """What runs, and why in a few words."""

    name: Literal["pure", "native"]
    why: str


def choose_level(wish: Wish) -> Level:
    """The level for a wish; `auto` takes the native one where it is built and works.

    Errors: ConfigError when the native level is wished for and cannot be had.
    """
    if wish == "pure":
        return Level("pure", "AIRSIDE_KAFKA__LEVEL asks for it")
    fault = find_fault()
    if fault is None:
        return Level("native", "it is built, and its self-check passes")
    if wish == "native":
        raise ConfigError(
            do="use",
            kind="setting",
            name="AIRSIDE_KAFKA__LEVEL",
            found=f"native, and {fault}",
            hint="build it with `python -m connectors.native.build`, or set the level to auto",
        )
    return Level("pure", fault)


@cache
def find_fault() -> str | None:
    """What keeps the native level from running here; None when it works.

    A client that connects to nothing is made and asked, so that everything of librdkafka that
    the library relies on is seen to be there.
    """
    try:
        native = load_native()
        _check_batches(native)
        _check_reading(native)
        _check_sweeps(native)
    except ImportError:
        return "the native library is not built"
    except (AttributeError, TypeError):
        return "the native library was built from another release"
    except (OSError, RuntimeError, KafkaException) as err:
        return f"its self-check failed: {err}"
    return None


@cache
def load_native() -> Any:
    """The library, bound to the librdkafka of the Kafka client.

    Errors: ImportError when it is not built; OSError when that librdkafka lacks something.
    """
    native = importlib.import_module("connectors.native._native")
    native.bind(cimpl.__file__)
    return native


def plugin_config(config: dict[str, Any]) -> dict[str, Any]:
    """A client's settings with the library as one of librdkafka's plugins."""
    own = str(load_native().__file__)
    others = config.get(_PLUGINS, "")
    return {**config, _PLUGINS: f"{others};{own}" if others else own}


def _check_batches(native: Any) -> None:
    rows = [(0, 5, 7, b"k", None, [(name.encode(), value) for name, value in _SAMPLE])]
    batch = native.make_batch("t", rows)
    if (batch[0], batch.keys(), batch.values(), batch.offsets()) != (_SAMPLE, [b"k"], [None], [5]):
        raise RuntimeError("a batch does not give back what it was given")


def _check_sweeps(native: Any) -> None:
    """One person, one send without an answer, and curves under which all atoms are as likely.

    A library of an earlier release has no sweep, or one of other arrays.
    """
    levels, shapes, bins = 13, 41, 48
    atoms = levels * shapes

    def zeros(*sizes: int, kind: str = "d") -> tuple[array[Any], ...]:
        return tuple(array(kind, bytes(array(kind).itemsize * size)) for size in sizes)

    week = shapes * bins
    tables = zeros(levels, atoms, week, week, shapes * 25, shapes, 8, 11)
    counts = zeros(*[bins] * 6, kind="f")
    counts[0][9] = 1.0
    sums = zeros(atoms, *[week] * 4, shapes * 24, bins, 8, 11, 1, 1, 2)
    (found,) = zeros(4)
    numbers = (1.0, 1 / shapes, 6.0, 1.0)
    hours, changed, rows = array("b", [-1]), memoryview(bytearray(1)).cast("?"), array("q", [0])
    try:
        native.sweep(tables, numbers, zeros(7, 7, 7), (*counts, hours, changed), rows, sums, found)
    except ValueError:
        raise TypeError("it takes other arrays") from None
    if abs(found[0] - math.log(atoms / 2)) > _DIGITS or abs(sum(sums[0]) - 1.0) > _DIGITS:
        raise RuntimeError("a sweep adds up something else")


def _check_reading(native: Any) -> None:
    consumer = Consumer(plugin_config({"group.id": "airside", "logger": QUIET, "log_level": 0}))
    reader = native.Reader()
    reader.forward("airside", 0)
    found = reader.fetch(1, 0)
    reader.close()
    consumer.close()
    if found != ([], []):
        raise RuntimeError("a reader reads what nobody sent")
    try:
        reader.fetch(1, 0)
    except RuntimeError:
        return
    raise RuntimeError("a reader outlives its client")
