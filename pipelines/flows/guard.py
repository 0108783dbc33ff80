"""One flow run at a time for what is published, across all deployments and places to run."""

from __future__ import annotations

import uuid
from contextlib import AbstractContextManager

from prefect.runtime import flow_run

from pipelines.lease import Lease, holding
from pipelines.storage import Storage
from serving_export.control import DOCUMENT


def only_one(runs: Storage) -> AbstractContextManager[Lease]:
    """Hold the lease of the published items for a block, in this flow run's name.

    Raises:
        HeldError: another flow run holds it.
    """
    name = flow_run.name or "a run"
    return holding(runs, DOCUMENT, holder=name, owner=flow_run.id or uuid.uuid4().hex)
