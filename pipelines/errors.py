"""Errors that a person caused or must act on: one sentence each, and the exit code it ends with.

A message says what is wrong, where, and what to do next. The command line prints it without a
traceback (``--debug`` adds it), and a flow run ends with it.
"""

# Those of the other packages. By name: whoever raised one has imported its module, and importing
# them all here, PyTorch among them, would cost seconds.
_OTHERS = {
    "hyperrec_core.artefact.ArtefactError",
    "hyperrec_core.histories.HistoriesError",
    "hyperrec_core.ranks.RanksError",
    "infra.local.service.LocalServiceError",
    "serving_export.errors.ExportError",
}


def is_for_people(error: BaseException | None) -> bool:
    """Whether an error's message is all that a person needs to know of it."""
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    return isinstance(error, PipelineError) or bool(kinds & _OTHERS)


class PipelineError(RuntimeError):
    """A run failed; the message says why and what to do."""

    exit_code = 1


class UsageError(PipelineError):
    """The command, its settings or its input cannot work as given."""

    exit_code = 2


class GateRefusedError(PipelineError):
    """The judged model may not be published."""


class ApprovalNeededError(PipelineError):
    """The judged model may be published once a person has approved it."""


class OvertakenError(PipelineError):
    """The version that serves now is of a later day, or better than this run's."""


class HeldError(PipelineError):
    """Another run works on the same target."""


class SparkError(PipelineError):
    """Spark failed or was killed in the middle of its work; trying again may help."""


class WorkerLostError(PipelineError):
    """What another worker was given to do ended without its result; trying again may help."""


class StorageError(PipelineError):
    """Blob storage could not be used."""


class StorageUnavailableError(StorageError):
    """Blob storage did not answer for as long as `HYPERREC_PATIENCE_SECONDS` allows."""


class StorageDeniedError(StorageError):
    """Blob storage refused the credential."""


class NotFoundError(StorageError):
    """No blob of that name."""


class AlreadyExistsError(StorageError):
    """A conditional put found the blob already there."""


class CorruptOutputError(PipelineError):
    """A stored output is not the one its manifest names."""
