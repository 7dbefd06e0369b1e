"""A short simulated week, end to end: the real jobs, schedules and sensor against stand-ins with outages."""

import pytest

from bench.fidelity.__main__ import run_apart
from bench.fidelity.week import Plan


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kill", [False, True], ids=["alive", "killed"])
def test_everything_within_the_horizon_is_right_in_the_end(kill):
    # The product reads every hour again at an age of 24 h, so that is how late anything may change in a short run.
    result = run_apart(Plan(seed=2, days=1, traces_per_hour=4, horizon_hours=24, kill=kill))
    for tally in result.ours.values():
        assert tally.expected > 200
        assert tally.unexplained == []
        assert (tally.stale, tally.missing, tally.doubled) == (0, 0, 0)
        assert tally.extra == tally.deleted
        assert tally.share_right == 1.0
    assert not result.failed
    assert all(tally.share_right < 0.98 for tally in result.native.values())
    assert any(run.endswith("failure") for run in result.runs)
    assert {"schedule", "revisit"} <= set(result.reasons)
    assert result.usage.fits_hobby
    assert (result.kills > 0) == kill
