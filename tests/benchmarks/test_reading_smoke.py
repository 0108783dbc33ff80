"""The benchmark of reading at its smallest: every row is there, and both ways agree."""

from __future__ import annotations

from tests.benchmarks.reading import bench


def test_every_row_and_sentence_is_there() -> None:
    text = bench(items=60, questions=5, compared_items=30).text()
    for part in (
        "| get(50 items) | memory, 60 items | 5 |",
        "| recommend(k = 20) | memory, 60 items | 5 |",
        "| recommend(k = 20, category) | memory, 60 items | 5 |",
        "| recommend(k = 20) | memory, while a version is loaded beside |",
        "| get(50 items) | point reads, emulator, 60 items | 1 |",
        "| recommend(k = 20) | VectorDistance, emulator, 30 items | 5 |",
        "Of 5 users over 60 items, 5 got from memory exactly",
        "Of 5 users over 30 items, 5 got the same",
    ):
        assert part in text, text
