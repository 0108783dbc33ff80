"""The version that serves now: read from the control document, and its model judged beside a run's.

Its model is rebuilt from the run that made it and ranks the same test labels of this run among the
same negatives. That is fair as long as it was not trained on them, which the model of an earlier or
the same day was not when both leave out the same test days; one of a later day is not compared.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from hyperrec_core import artefact
from hyperrec_core.compare import compare
from hyperrec_core.evaluate import evaluate
from hyperrec_core.fit import best_device
from hyperrec_core.histories import Histories
from hyperrec_core.models import restore
from hyperrec_core.ranks import Ranks, read_pair, to_parquet
from hyperrec_core.translated import rows_of, translated_scorer
from hyperrec_core.warm import Earlier
from pipelines import gates
from pipelines.errors import CorruptOutputError, NotFoundError, UsageError
from pipelines.gate_limits import GateConfig
from pipelines.gates import Verdict
from pipelines.profile import Profile, profile_of
from pipelines.runs import Attempt, Run, day_of_run
from pipelines.settings import CosmosAccount, patience_seconds
from pipelines.stages.inputs import Vocabulary, publishable, read_earlier, read_vocabulary
from serving_export import publish
from serving_export.errors import MissingContainerError
from serving_export.slots import Control, Published

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """What was found out by holding a run against the active version.

    Attributes:
        verdicts: of the gates `active`, `catalogue` and `quarantine`.
        version: the active one, None where none is known.
        ranks: of the active version's model on the run's test labels, where it could be judged.
    """

    verdicts: list[Verdict]
    version: str | None
    ranks: Ranks | None


def control_of(account: CosmosAccount) -> Control:
    """What is active; nothing where the account has no containers yet.

    Raises:
        UnavailableError, CredentialsError: the service does not answer, or refuses.
    """
    try:
        return publish.status(account.endpoint, account.credential, patience=patience_seconds())
    except MissingContainerError:
        return Control()


def is_later(active: Published, run: Run) -> bool:
    """Whether a version was made of later days than a run."""
    day = day_of_run(active.run_id)
    return day is not None and day > run.record.as_of


def compared(
    attempt: Attempt,
    profile: Profile,
    active: Published | None,
    *,
    otherwise: str = "nothing is active yet",
    ranks: bytes,
    test: Histories,
    vocabulary: Vocabulary,
) -> Comparison:
    """Hold a judged run against the active version.

    Args:
        attempt: at the stage of the run that asks.
        profile: of the run.
        active: what serves now, None when nothing does or none is known.
        otherwise: why there is none, in words.
        ranks: the run's `ranks.parquet`.
        test: its test labels.
        vocabulary: its trained items.
    """
    run, limits = attempt.run, profile.evaluate.gates
    version = None if active is None else active.version
    size = before = found = None
    why = otherwise if active is None else _incomparable(active, run, limits)
    if active is None or why is not None:
        verdict = gates.not_compared("pass", why or otherwise, version)
    else:
        size = active.items
        try:
            earlier = Run.open(run.storage, active.run_id)
            theirs = profile_of(earlier.record)
            _require_unlearned(theirs, profile)
            model = read_earlier(attempt, earlier, theirs.train.model)
            found = _judged(model, profile, test, vocabulary)
            before = quarantined_share(earlier)
        except (UsageError, CorruptOutputError, NotFoundError, artefact.ArtefactError) as error:
            # Rare, and nothing tells whether users will get less: somebody should look.
            why = f"the active version {version} cannot be judged beside this one"
            why = f"{why}: {str(error).rstrip('.')}"
            log.warning("In the gate active, %s.", why)
            verdict = gates.not_compared("warn", why, version)
        else:
            stored = to_parquet(found, user_ids=test.user_ids, item_ids=vocabulary.item_ids)
            own, other = read_pair(ranks, stored)
            differences = compare([own], [other], tuple(gates.METRICS), seed=profile.seed)
            verdict = gates.active(active.version, differences, limits)
    items = publishable(read_vocabulary(attempt, untrained=True), profile)
    verdicts = [verdict, gates.catalogue(len(items), size, limits)]
    if (share := quarantined_share(run)) is not None:
        verdicts.append(gates.quarantine(share, before, limits))
    return Comparison(verdicts, version, found)


def _incomparable(active: Published, run: Run, limits: GateConfig) -> str | None:
    """Why a version is not to be compared with, in words."""
    if not limits.against_active:
        return "evaluate.gates.against_active is off, so the active version does not count"
    if active.version == run.run_id:
        return f"version {active.version} is the active one"
    if is_later(active, run):
        return (
            f"the active version {active.version} is of a later day and has learned these labels, "
            "so it is not compared"
        )
    return None


def _require_unlearned(theirs: Profile, profile: Profile) -> None:
    """Raise `UsageError` where another run may have trained on labels that this one is tested on.

    The seed decides between events of the same second, and so which purchase is a user's last.
    """
    for name, own, other in (
        ("seed", profile.seed, theirs.seed),
        ("preprocess.split", profile.preprocess.split, theirs.preprocess.split),
        ("preprocess.test_days", profile.preprocess.test_days, theirs.preprocess.test_days),
    ):
        if own != other:
            raise UsageError(
                f"its {name} is {other} and not {own}, so it may have learned these labels"
            )


def quarantined_share(run: Run) -> float | None:
    """The share of the rows that a run read which are in quarantine; None where it has no count."""
    counted = run.require("preprocess").metrics
    if not counted.get("rows_read"):
        return None
    return float(counted["rows_quarantined"] / counted["rows_read"])


def _judged(earlier: Earlier, profile: Profile, test: Histories, vocabulary: Vocabulary) -> Ranks:
    """Ranks of the test labels by the model of another run."""
    model = restore(earlier.config, earlier.state, device=best_device())
    trained = earlier.item_ids[: len(model.item_vectors())]
    scorer, lags = translated_scorer(model, rows_of(vocabulary.item_ids, trained))
    return evaluate(
        scorer,
        test,
        items=len(vocabulary),
        lags=lags,
        negatives=profile.evaluate.negatives,
        seed=profile.seed,
        exclude_seen=profile.evaluate.exclude_seen,
    )
