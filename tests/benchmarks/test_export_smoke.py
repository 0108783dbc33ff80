"""The benchmark of publishing at its smallest: it measures the client alone and a whole export."""

from __future__ import annotations

from tests.benchmarks.export import bench


def test_every_sentence_is_there() -> None:
    alone, exported = bench(count=60, processes=1, ceiling_items=40, ru=None)
    assert alone.startswith("The client alone, 1 process(es): ")
    assert "ms of CPU a document" in alone
    assert exported.startswith("60 items of 51 floats exported, verified and promoted by 1 ")
    assert "0 throttled, 0 sent again." in exported
