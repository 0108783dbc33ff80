"""What the end-to-end tests run on."""

from __future__ import annotations

import pytest

from tests import data


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"The main job was tested on {data.kind()}.")
