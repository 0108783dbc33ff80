"""The accounts of a run's rows: read = kept + quarantined + dropped, by rule."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.sql import functions as F  # noqa: N812  Spark's own documentation calls it F

from pipelines.errors import PipelineError
from pipelines.preprocess.compact import Day
from pipelines.preprocess.compact_rows import Counts
from pipelines.preprocess.facts import EVENTS
from pipelines.preprocess.histories import SPLITS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from pipelines.preprocess.config import PreprocessConfig

log = logging.getLogger(__name__)


class Accounts:
    """What has become of the rows so far; each part of the job enters what it has counted.

    Attributes:
        days: what was read.
        read: rows of readable files.
        quarantined: rows by the first rule they break.
        bad_files: rule and detail of each unreadable file of interactions.
        bad_catalogue_files: likewise of the catalogue.
        catalogue_rows_unread: rows of the catalogue's other files that cannot be read, or whose
            `is_live` cannot.
        events: schema `facts.EVENTS`; the rows kept.
    """

    def __init__(self, days: Sequence[Day]) -> None:
        """Open them with what the days' files held."""
        self.days = list(days)
        total = Counts()
        for day in days:
            total = total.plus(day.counts)
        self.read = total.read
        self.bad_files = total.bad_files
        self.bad_catalogue_files: dict[str, tuple[str, str]] = {}
        self.catalogue_rows_unread = 0
        self.quarantined: dict[str, int] = {}
        self._dropped = Counter(total.dropped)
        self.events = EVENTS.empty_table()
        self.first_event: str | None = None
        self.last_event: str | None = None

    @property
    def dropped(self) -> dict[str, int]:
        """Rows by drop rule."""
        return {rule: count for rule, count in sorted(self._dropped.items()) if count}

    def drop(self, rule: str, rows: int) -> None:
        """Enter rows that a rule has left out."""
        self._dropped[rule] += rows

    def quarantine(self, rows: Mapping[str, int]) -> None:
        """Enter the rows for quarantine, each under the first rule it breaks.

        Rules of files have a row each in quarantine, which stands for no row that was read.
        """
        files = Counter(rule for rule, _ in self.bad_files.values())
        self.quarantined = {
            rule: count - files[rule] for rule, count in rows.items() if count > files[rule]
        }
        log.info("Read %d rows; quarantined: %s.", self.read, self.quarantined or "none")
        for name, (rule, detail) in self.bad_files.items():
            log.warning("Quarantined the file %s (%s): %s.", name, rule, detail)

    @property
    def all_bad_files(self) -> dict[str, tuple[str, str]]:
        """Rule and detail of each unreadable file, of interactions and of the catalogue."""
        return self.bad_files | self.bad_catalogue_files

    def catalogue(self, bad_files: Mapping[str, tuple[str, str]], rows: Mapping[str, int]) -> None:
        """Enter what cannot be read of the catalogue; it is told and ends no run.

        Args:
            bad_files: rule and detail of each unreadable file.
            rows: unreadable ones of each other file.
        """
        self.bad_catalogue_files = dict(sorted(bad_files.items()))
        self.catalogue_rows_unread = sum(rows.values())
        for name, (rule, detail) in self.bad_catalogue_files.items():
            log.warning(
                "Quarantined the catalogue file %s (%s): %s. Items that no other file describes "
                "count as live and have no title.",
                name, rule, detail,
            )  # fmt: skip
        for name, count in sorted(rows.items()):
            log.warning(
                "%d rows of the catalogue file %s, or their is_live, cannot be read: such items "
                "count as live; the rows are in quarantine.",
                count, name,
            )  # fmt: skip

    def require_readable(self, config: PreprocessConfig, source_url: str, place: str) -> None:
        """See that there are rows and that not too many of them are for quarantine.

        Raises:
            PipelineError: there are none, or there are too many.
        """
        if self.read == 0 and self.bad_files:
            name, (_, detail) = next(iter(self.bad_files.items()))
            raise PipelineError(
                f"None of the files of interactions in {source_url} can be read, "
                f"{len(self.bad_files)} in all; the first, {name}: {detail}."
            )
        if self.read == 0:
            raise PipelineError(
                f"The files of interactions in {source_url} hold no rows: deliver them again."
            )
        bad = sum(self.quarantined.values())
        if bad / self.read > config.maximum_quarantined_share:
            worst = sorted(self.quarantined.items(), key=lambda each: (-each[1], each[0]))[:3]
            raise PipelineError(
                f"{bad / self.read:.1%} of {self.read} rows are quarantined and the limit is "
                f"{config.maximum_quarantined_share:.1%} "
                f"({', '.join(f'{name} {count}' for name, count in worst)}): see {place}, then "
                "mend the input, add a drop rule or raise maximum_quarantined_share."
            )

    def settle(self, assigned: DataFrame) -> dict[str, Any]:
        """Enter what has become of the valid rows, and close the accounts.

        Args:
            assigned: frame of `splits.assign_splits`.

        Returns:
            The metrics of rows, users and labels.

        Raises:
            PipelineError: rows are missing, or none is kept.
        """
        day = F.date_from_unix_date(F.expr("int(seconds div 86400)"))
        groups = (
            assigned.groupBy("dropped_by", "label", "event_type", day.alias("day"))
            .agg(
                F.count("*").alias("rows"),
                F.min("seconds").alias("first"),
                F.max("seconds").alias("last"),
                F.sum(F.col("is_newest").cast("long")).alias("users"),
                F.sum((F.col("is_newest") & F.col("train_only")).cast("long")).alias("train_only"),
            )
            .collect()
        )
        kept = [group for group in groups if group.dropped_by is None]
        by_day: Counter[tuple[date, str]] = Counter()
        for group in kept:
            by_day[group.day, group.event_type] += group.rows
        self.events = pa.Table.from_pylist(
            [
                {"day": day, "event_type": kind, "rows": rows}
                for (day, kind), rows in sorted(by_day.items())
            ],
            schema=EVENTS,
        )
        for group in groups:
            if group.dropped_by is not None:
                self.drop(group.dropped_by, group.rows)
        metrics = {
            "rows_read": self.read,
            "rows_kept": sum(group.rows for group in kept),
            "rows_quarantined": sum(self.quarantined.values()),
            "rows_dropped": sum(self.dropped.values()),
            "quarantined": self.quarantined,
            "dropped": self.dropped,
            "files_quarantined": {
                name: f"{rule}: {why}" for name, (rule, why) in self.all_bad_files.items()
            },
            "catalogue_rows_unread": self.catalogue_rows_unread,
        }
        counted = metrics["rows_kept"] + metrics["rows_quarantined"] + metrics["rows_dropped"]
        if metrics["rows_read"] != counted:
            raise PipelineError(
                f"{metrics['rows_read']} rows were read but {counted} are accounted for: the input "
                "changed during the run, or this is a fault of hyperrec; give the same command "
                "again."
            )
        if not kept:
            raise PipelineError(
                f"Nothing is left of {self.read} rows: {metrics['rows_quarantined']} are "
                f"quarantined ({self.quarantined}) and {metrics['rows_dropped']} dropped "
                f"({self.dropped}); look at the rules and limits of the profile."
            )
        self.first_event = _iso(min(group["first"] for group in kept))
        self.last_event = _iso(max(group["last"] for group in kept))
        return metrics | {
            "interactions": metrics["rows_kept"],
            "users": sum(group.users for group in kept),
            "users_train_only": sum(group.train_only for group in kept),
            "first_event": self.first_event,
            "last_event": self.last_event,
            "assigned_labels": {
                split: sum(group.rows for group in kept if group.label == split) for split in SPLITS
            },
        }


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
