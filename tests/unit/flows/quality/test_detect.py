"""Unusual minutes: found where they begin, once, and not where nothing happened."""

from __future__ import annotations

import numpy as np
import pytest

from flows.quality.detect import WARM_UP, Limits, Series, dump_series, load_series

CALM = 400
SHARES = np.array([0.5, 0.3, 0.2])


def minutes(
    seed: int, *, rate: float = 60, then: float = 1, swap: bool = False
) -> list[dict[str, int]]:
    rng = np.random.default_rng(seed)
    found = []
    for minute in range(CALM + 30):
        is_over = minute >= CALM
        shares = SHARES[::-1] if swap and is_over else SHARES
        counts = rng.multinomial(rng.poisson(rate * (then if is_over else 1)), shares)
        found.append({f"t{number}": int(n) for number, n in enumerate(counts) if n})
    return found


def alarms(some: list[dict[str, int]]) -> list[tuple[int, str]]:
    series = Series()
    return [
        (number, anomaly.kind)
        for number, counts in enumerate(some)
        for anomaly in series.close(counts, Limits())
    ]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("then", "within"), [(0.0, 1), (4.0, 1), (0.4, 15)])
def test_a_change_of_volume_is_told_once_and_soon(seed: int, then: float, within: int) -> None:
    found = [at for at, kind in alarms(minutes(seed, then=then)) if kind == "volume" and at >= CALM]

    assert 1 == len(found)
    assert found[0] < CALM + within


@pytest.mark.parametrize("seed", range(10))
def test_a_change_of_mix_is_told_once_at_the_same_volume(seed: int) -> None:
    found = [(at, kind) for at, kind in alarms(minutes(seed, swap=True)) if at >= CALM]

    assert [(CALM, "mix")] == found


def test_calm_streams_are_almost_never_told_about() -> None:
    assert 1 >= sum(len(alarms(minutes(seed))) for seed in range(10))


def test_nothing_is_told_while_the_usual_is_being_learned() -> None:
    assert [] == alarms([{"a": 5}, {"a": 500}] * (WARM_UP // 2))


@pytest.mark.parametrize("cut", [0, 1, WARM_UP, CALM, CALM + 3])
def test_saved_detectors_go_on_as_if_nothing_had_been(cut: int) -> None:
    some = minutes(3, then=0.3, swap=True)
    whole, first = Series(), Series()
    wanted = [whole.close(counts, Limits()) for counts in some]

    found = [first.close(counts, Limits()) for counts in some[:cut]]
    [again] = load_series(dump_series({("a", "b"): first})).values()
    found += [again.close(counts, Limits()) for counts in some[cut:]]

    assert any(wanted)
    assert wanted == found
