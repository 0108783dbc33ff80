"""Manifests and reports as Markdown and rows of tables. Pure; what others have named is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hyperrec_core.metrics import HEADLINES, METRICS
from pipelines.gates import gravest_first, verdicts_of
from pipelines.preprocess.report import Report
from pipelines.runs import STAGES, Manifest, Run, StageName
from serving_export.price import Price
from serving_export.slots import Control

_MARKS = {"ok": "✓", "warn": "⚠", "stop": "✗", "pass": "✓", "refuse": "✗"}
_DAYS_SHOWN = 14


def escaped(text: object) -> str:
    """Text as it is, in Markdown and in a cell of a table; what cannot be printed is a mark."""
    plain = "".join(each if each.isprintable() else "�" for each in " ".join(str(text).split()))
    for mark in "\\`*_[]<>|#":
        plain = plain.replace(mark, f"\\{mark}")
    return plain


def table(heading: Sequence[str], rows: Iterable[Sequence[object]], *, right: int = 0) -> str:
    """A Markdown table; the columns from `right` on are numbers, and ranged right where > 0."""
    sides = ["---:" if right and place >= right else "---" for place in range(len(heading))]
    lines = [heading, sides, *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def data_report(report: Report, *, run: Run) -> str:
    """What the input of a night held, from `report.json`."""
    fates = [("read", report.rows_read), ("kept", report.interactions)]
    fates += [(f"quarantined: {rule}", rows) for rule, rows in sorted(report.quarantined.items())]
    fates += [(f"dropped: {rule}", rows) for rule, rows in sorted(report.dropped.items())]
    newest = report.volumes[-_DAYS_SHOWN:]
    top = [
        (item.item_id, item.title or "", f"{item.count:,}", f"{item.share:.2%}")
        for item in report.top_items[:10]
    ]
    compared = report.earlier_run or "no earlier published run"
    return "\n\n".join(
        [
            f"# Data report, {report.as_of}",
            f"Input `{report.source}`, compared with {escaped(compared)}. The whole report with "
            f"its charts: `hyperrec report {report.run_id} --to .`, or `report.html` in "
            f"`{_folder(run, 'preprocess')}`.",
            "## Limits",
            table(
                ["", "limit", "finding"],
                [(_MARKS[v.level], v.name, v.sentence) for v in report.verdicts],
            ),
            "## Rows",
            table(["rows", ""], [(name, f"{rows:,}") for name, rows in fates], right=1),
            f"## Newest {len(newest)} days with interactions",
            table(
                ["day", "interactions"],
                [(volume.day, f"{sum(volume.rows.values()):,}") for volume in reversed(newest)],
                right=1,
            ),
            "## Most frequent items",
            table(["item", "title", "interactions", "share"], top, right=2),
        ]
    )


def metric_rows(judged: Mapping[str, Any]) -> list[dict[str, str]]:
    """The metrics of every scorer with 95 % intervals over users, as rows of a table artefact."""
    rows = []
    for scorer, result in judged["results"].items():
        row = {"scorer": scorer.replace("_", " ")}
        for name in HEADLINES:
            among = "all items" if METRICS[name].ranking == "full" else "sampled"
            low, high = result["intervals"][name]
            told = f"{result[name]:.4f} ({low:.4f} to {high:.4f})"
            row[f"{METRICS[name].title} ({among})"] = told
        row["labels"] = f"{result['labels']:,}"
        rows.append(row)
    return rows


def verdict_rows(judged: Mapping[str, Any]) -> list[dict[str, str]]:
    """What each gate said, as rows of a table artefact, the gravest first."""
    return [
        {
            "gate": each.gate,
            "outcome": f"{_MARKS[each.outcome]} {each.outcome}",
            "reason": each.reason,
        }
        for each in gravest_first(verdicts_of(judged))
    ]


def headline(judged: Mapping[str, Any]) -> list[str]:
    """HR@10, NDCG@10 and what the gates said, for a line of a table."""
    model = judged["results"]["model"]
    worst = verdict_rows(judged)[0]["outcome"]
    return [f"{model['hr_at_10']:.4f}", f"{model['ndcg_at_10']:.4f}", worst]


def training(manifest: Manifest, pictures: Sequence[str]) -> str:
    """How training went, from the train manifest, with pictures as Markdown."""
    metrics = manifest.metrics
    best = metrics["best_epoch"]
    judged = ""
    if best["hr_at_10"] is not None:
        judged = (
            f", the best of them number {best['number']} with HR@10 {best['hr_at_10']:.4f} and "
            f"NDCG@10 {best['ndcg_at_10']:.4f} on validation labels"
        )
    told = (
        f"{metrics['epochs']} epochs on {metrics['device']}{judged}; "
        f"{metrics['examples_per_second']:,} examples/s, {manifest.wall_seconds:,.0f} s in all."
    )
    return "\n\n".join([f"# Training of run {manifest.run_id}", told, *pictures])


def exported(manifest: Manifest) -> str:
    """What the export did, from its manifest."""
    metrics = manifest.metrics
    names = {
        "version": "version",
        "slot": "slot",
        "items": "items",
        "written": "documents written",
        "deleted": "documents deleted",
        "request_units": "request units",
        "throttled": "throttled requests",
        "retries": "requests sent again",
        "seconds": "seconds",
    }
    rows = [(words, _number(metrics[name])) for name, words in names.items() if name in metrics]
    already = metrics.get("already_active", False)
    told = "It was active and whole already." if already else "Verified, and active."
    return f"# Published {manifest.run_id}\n\n{told}\n\n{table(['', ''], rows, right=1)}"


def priced(run_id: str, price: Price) -> str:
    """What publishing a run would cost."""
    return (
        f"Publishing {run_id} would write {price.documents:,} documents of "
        f"{price.mean_bytes:,.0f} bytes on average to slot {price.slot}, take about "
        f"{price.request_units:,.0f} RU ({price.basis}) and at least {price.seconds:,.0f} s. "
        "Nothing was written."
    )


def summary(title: str, run: Run, lines: Sequence[str]) -> str:
    """The end of a flow run: what came out of it, and where to look."""
    rows = []
    for stage in STAGES:
        manifest = run.manifest(stage)
        if manifest is None:
            continue
        size = sum(output.bytes for output in manifest.outputs)
        rows.append(
            (stage, f"{manifest.wall_seconds:,.1f} s", f"{size / 1e6:,.1f} MB", manifest.attempt)
        )
    return "\n\n".join(
        [
            f"# {escaped(title)}",
            *lines,
            table(["stage", "time", "outputs", "attempt"], rows),
            f"Run `{run.run_id}`, kept in `{run.storage.url}/{run.run_id}`. "
            "See the artefacts of this flow run for the [data report](/artifacts/key/data-report), "
            "the [training](/artifacts/key/training), the [metrics](/artifacts/key/metrics) and "
            "the [gates](/artifacts/key/gates).",
            f"`hyperrec fetch {run.run_id} items.png` copies out what it wrote.",
        ]
    )


def rolled_back(control: Control, *, who: str, why: str) -> str:
    """The end of a roll-back."""
    rows = [
        (name, part.version, part.slot, f"{part.items:,}")
        for name, part in (("active", control.active), ("previous", control.previous))
        if part is not None
    ]
    return "\n\n".join(
        [
            "# Rolled back",
            f"By {escaped(who)}: {escaped(why)}",
            table(["", "version", "slot", "items"], rows),
            "Readers follow within their interval. A second roll-back undoes this one.",
        ]
    )


def failure(sentence: str) -> str:
    """The end of a flow run that failed."""
    return (
        f"# It did not succeed\n\n{escaped(sentence)}\n\nThe active version is as it was. Once the "
        "cause is gone, *Retry* on this flow run goes on after the last finished stage; its log "
        "has the details."
    )


def question(run_id: str, judged: Mapping[str, Any]) -> str:
    """What a person who is to approve must know."""
    rows = [(row["outcome"], row["gate"], row["reason"]) for row in verdict_rows(judged)]
    return "\n\n".join(
        [
            f"Run `{run_id}` waits for approval: a gate warns, and nothing is published until "
            "somebody has looked.",
            table(["outcome", "gate", "finding"], rows),
            "Approve to publish it; decline, and the active version stays.",
        ]
    )


def _folder(run: Run, stage: StageName) -> str:
    return f"{run.storage.url}/{run.run_id}/{stage}/{run.require(stage).attempt}"


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
