"""A log of invented prompts at random hours, and what policies would have reached on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.timing_bench.replay_log import read_prompts, replay_log
from schemas.errors import ConfigError


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    lines = ["user,day,block,weekday,hour,latency_min,completed"]
    for day in range(30):
        for person in range(20):
            hour = rng.uniform(9, 13)
            done = rng.random() < (0.9 if hour >= 12 else 0.3)
            lines.append(f"p{person},{day},1,{day % 7},{hour:.2f},,{int(done)}")
    path = tmp_path / "prompts.csv"
    path.write_text("\n".join(lines))
    return path


def test_the_learner_finds_the_good_hour_of_a_log(prompts: Path) -> None:
    log = read_prompts(prompts)
    ours, luck = (replay_log(log, name, seeds=[1]) for name in ("delivery-time", "random"))

    assert 600 == len(log.users)
    assert luck.rate_interval[0] <= log.responded.mean() <= luck.rate_interval[1]
    assert ours.rate > luck.rate + 0.15
    assert ours.snips_interval[0] <= ours.snips <= ours.snips_interval[1]


def test_a_log_without_a_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("user,day\nada,1\n")

    with pytest.raises(ConfigError, match="no column block"):
        read_prompts(path)
