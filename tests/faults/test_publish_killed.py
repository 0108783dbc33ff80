"""A few of the random kills that `python -m tests.faults.kill_exports` makes by the hundred."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.local.services import cosmos_server
from tests.faults.kill_exports import kill_and_repeat

pytestmark = pytest.mark.slow


def test_killed_at_random_moments_and_repeated_ends_in_one_whole_version(tmp_path: Path) -> None:
    with cosmos_server(tmp_path) as endpoint:
        result = kill_and_repeat(endpoint, times=8, seed=11)
    assert result.faults == []
    assert sum(result.moments.values()) == 8
    assert len(result.moments) > 1, "all kills struck at the same moment"
    assert result.polls > 0 and len(result.seen) > 1
