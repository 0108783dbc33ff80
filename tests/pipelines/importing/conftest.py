from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.storage import Storage, open_storage


@pytest.fixture
def target(tmp_path: Path) -> Storage:
    """Where the raw layout goes."""
    return open_storage(str(tmp_path / "raw"))
