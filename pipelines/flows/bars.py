"""Bars of the stages as progress artefacts of the flow run, a move every two seconds at most.

A thread of its own talks to the API, so that no stage waits for it, and a server that is away
costs the night nothing but the picture.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.exceptions import PrefectException

from pipelines.progress import Moved, listening

log = logging.getLogger(__name__)

_SECONDS = 2.0
_FAULTS = (httpx.HTTPError, PrefectException, OSError)


@contextmanager
def shown_bars(stage: str) -> Iterator[None]:
    """Show the bars of a block as one progress artefact of the present task run."""
    try:
        created = create_progress_artifact(0.0, key=f"{stage}-progress", description=stage)
    except _FAULTS as error:
        log.warning("The progress of stage %s is not shown: %s", stage, error)
        yield
        return
    assert isinstance(created, UUID)  # noqa: S101  a coroutine is for callers inside a loop
    shown = _Shown(created, stage)
    # In this context, which knows what server the settings name.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=[shown.keep], name="progress", daemon=True)
    thread.start()
    try:
        with listening(shown.move):
            yield
        shown.done()
    finally:
        shown.stop.set()
        thread.join(10)


class _Shown:
    def __init__(self, artefact: UUID, stage: str) -> None:
        self._artefact = artefact
        self._stage = stage
        self._newest: tuple[float, str] | None = None
        self.stop = threading.Event()

    def move(self, moved: Moved) -> None:
        """Note how far it is; the thread shows it."""
        share = 100 * moved.done / moved.total if moved.total else 0.0
        counted = f"{moved.doing}: {moved.done:,} of {moved.total:,}"
        self._newest = (min(share, 100.0), f"{counted} ({moved.note})" if moved.note else counted)

    def done(self) -> None:
        """The end, whatever the last move said."""
        said = self._newest[1] if self._newest else f"{self._stage}: done"
        self._newest = (100.0, said)

    def keep(self) -> None:
        """Show the newest move, until told to stop, and then the last one."""
        shown = None
        with get_client(sync_client=True) as client:
            while True:
                last = self.stop.wait(_SECONDS)
                newest = self._newest
                if newest is not None and newest != shown:
                    share, said = newest
                    try:
                        client.update_artifact(
                            self._artefact, ArtifactUpdate(data=share, description=said)
                        )
                    except _FAULTS as error:
                        log.debug("The progress could not be shown: %s", error)
                    shown = newest
                if last:
                    return
