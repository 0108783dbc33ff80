"""How far a stage is: a bar on a terminal, and whoever listens.

A stage knows neither: it moves a bar, and does so as often as it likes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@dataclass(frozen=True)
class Moved:
    """How far something is: `done` of `total`, and a note on what that is."""

    doing: str
    done: int
    total: int
    note: str = ""


class Move(Protocol):
    """What moves a bar."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


class Listener(Protocol):
    """What is told of every move, on the thread that moves: it must return at once."""

    def __call__(self, moved: Moved) -> None: ...


_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have a listener told of every bar of this process during a block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(moved: Moved) -> None:
    """Pass on how far something is, such as what a child process says."""
    for listener in tuple(_listeners):
        listener(moved)


@contextmanager
def bar(description: str) -> Iterator[Move]:
    """A bar that is moved by calling it with (done, total); seen on a terminal alone."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(file=sys.stderr)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as all_:
        task = all_.add_task(description, total=None)

        def move(done: int, total: int, note: str = "") -> None:
            all_.update(task, completed=done, total=total)
            tell(Moved(description, done, total, note))

        yield move
