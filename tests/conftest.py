"""Fixtures and settings of the whole suite."""

from __future__ import annotations

from hypothesis import settings

# The machine's speed is not what a property is about, and a failure must come again.
settings.register_profile("suite", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("suite")
