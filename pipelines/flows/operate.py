"""What every flow does around its own work: the form, the log, the name, and how it ends.

A flow that fails for a reason that a person must know ends in a state whose message is that one
sentence. Its name is Refused where a gate, or a later version, kept the result from being
published; Cancelled where the person who was asked declined; and Failed for all else, a run that
met another one at work among it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled, Failed
from pydantic import BaseModel, ValidationError

from pipelines.errors import (
    ApprovalNeededError,
    GateRefusedError,
    OvertakenError,
    PipelineError,
    is_for_people,
)
from pipelines.flows.artefacts import markdown, publish
from pipelines.flows.events import REFUSED, emit
from pipelines.flows.forms import checked
from pipelines.flows.logs import logs_of_flow

Form = TypeVar("Form", bound=BaseModel)
Result = TypeVar("Result")

_REFUSALS = (GateRefusedError, ApprovalNeededError, OvertakenError)


class DeclinedError(PipelineError):
    """The person who was asked did not approve of the run."""


def operate(
    kind: type[Form], given: Any, work: Callable[[Form], Result]
) -> Result | State[BaseException]:
    """Do a flow's work with its checked form; its failures end as states with one sentence.

    Args:
        kind: the flow's form.
        given: what the flow was called with: such a form, or plain values.
        work: the flow itself.

    Returns:
        What the work returned, or the state in which the flow run ends.
    """
    with logs_of_flow():
        try:
            return work(checked(kind, given))
        except DeclinedError as error:
            publish.as_markdown("summary", markdown.failure(str(error)))
            return Cancelled(message=str(error), data=error)
        except Exception as error:
            if not is_for_people(error):
                raise
            # One line, whatever a library has put into its message.
            sentence = " ".join(str(error).split())
            publish.as_markdown("summary", markdown.failure(sentence))
            if not isinstance(error, _REFUSALS):
                return Failed(message=sentence, data=error)
            emit("hyperrec.gate.refused", sentence)
            return Failed(name=REFUSED, message=sentence, data=error)


def run_name(kind: type[Form], words: Callable[[Form], str], otherwise: str) -> Callable[[], str]:
    """What names a flow's runs: words made of its form, or others where the form does not check."""

    def name() -> str:
        try:
            return words(kind.model_validate(flow_run.parameters["form"]))
        except (ValidationError, KeyError):
            return otherwise

    return name
