"""What Cosmos DB holds and answers: `hyperrec status`, `history`, `rollback`, `clean` and more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pipelines.cli.app import app
from pipelines.cli.show import console
from serving_export.errors import MissingContainerError, NothingPublishedError
from serving_export.reader import Reader, Recommendation, Search
from serving_export.slots import Control

if TYPE_CHECKING:
    from pipelines.settings import CosmosAccount
    from serving_export.events import Event


@app.command()
def status() -> None:
    """Show the active version, the one before, and what is being loaded."""
    from pipelines.settings import patience_seconds  # noqa: PLC0415
    from serving_export.publish import status as read_status  # noqa: PLC0415

    try:
        with _cosmos() as cosmos:
            control = read_status(cosmos.endpoint, cosmos.credential, patience=patience_seconds())
    except NothingPublishedError as nothing:
        console.print(str(nothing))
    else:
        _print_control(control)


Why = Annotated[str | None, typer.Option("--why", help="the reason, for the history")]


@app.command()
def history(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="how many events")] = 20,
) -> None:
    """Show who made which version active, when and why, newest first."""
    from pipelines.settings import patience_seconds  # noqa: PLC0415
    from serving_export.publish import history as read_history  # noqa: PLC0415

    try:
        with _cosmos() as cosmos:
            events = read_history(
                cosmos.endpoint, cosmos.credential, limit=limit, patience=patience_seconds()
            )
    except NothingPublishedError as nothing:
        console.print(str(nothing))
    else:
        _print_history(events)


@app.command()
def rollback(why: Why = None) -> None:
    """Make the previous version active again; a second time undoes the first."""
    from pipelines.settings import operator, patience_seconds  # noqa: PLC0415
    from serving_export.publish import rollback as roll_back  # noqa: PLC0415

    with _cosmos() as cosmos:
        control = roll_back(
            cosmos.endpoint, cosmos.credential, who=operator(), why=why, patience=patience_seconds()
        )
    _print_control(control)


@app.command()
def clean() -> None:
    """Empty the slot that no version needs: an abandoned load's, or that of an old version."""
    from pipelines.settings import operator, patience_seconds  # noqa: PLC0415
    from serving_export.publish import clean as empty_slot  # noqa: PLC0415

    with _cosmos() as cosmos:
        slot, deleted = empty_slot(
            cosmos.endpoint, cosmos.credential, who=operator(), patience=patience_seconds()
        )
    console.print(f"Deleted {deleted:,} documents from slot {slot}, which no version needs.")


Count = Annotated[int, typer.Option("--k", min=1, max=1000, help="how many items")]
Category = Annotated[str | None, typer.Option(help="only items of this category")]
NotLive = Annotated[bool, typer.Option("--all", help="items that are not live, too")]
Way = Annotated[
    Search, typer.Option(help="let Cosmos DB search, or load the whole version into memory first")
]


@app.command()
def recommend(
    history: Annotated[str, typer.Option("--user-history", help="item ids, oldest first: A,B,C")],
    k: Count = 10,
    category: Category = None,
    seen: Annotated[bool, typer.Option("--seen", help="items of the history too")] = False,
    not_live: NotLive = False,
    search: Way = "cosmos",
) -> None:
    """Recommend items for a history, as a service would."""
    items = [item.strip() for item in history.split(",") if item.strip()]
    with _reader(search) as reader:
        known = reader.get(items)
        if unknown := [item for item in items if item not in known]:
            missing = ", ".join(unknown)
            console.print(f"Not in the active version, passed over: {missing}", markup=False)
        if items and not known:
            console.print("No item of the history is known: these are the most popular items.")
        for item in items:
            if item in known:
                console.print(f"history  {item}  {known[item].title or ''}", markup=False)
        found = reader.recommend(
            items, k, exclude_seen=not seen, live_only=not not_live, category=category
        )
    _print_recommendations(found)


@app.command()
def similar(
    item: Annotated[str, typer.Argument(help="item id")],
    k: Count = 10,
    category: Category = None,
    not_live: NotLive = False,
    search: Way = "cosmos",
) -> None:
    """Show the items nearest to one."""
    with _reader(search) as reader:
        if (known := reader.get([item])) and known[item].title:
            console.print(f"{item}  {known[item].title}", markup=False)
        found = reader.similar(item, k, live_only=not not_live, category=category)
    _print_recommendations(found)


@contextmanager
def _cosmos() -> Iterator[CosmosAccount]:
    """The configured account; an emulator without containers holds nothing, which is no fault."""
    from pipelines.settings import cosmos_account  # noqa: PLC0415

    account = cosmos_account()
    try:
        yield account
    except MissingContainerError as error:
        if not account.is_local:
            raise
        raise NothingPublishedError(
            f"Nothing has ever been published at {account.endpoint}; `hyperrec run` or "
            "`hyperrec export` does it."
        ) from error


@contextmanager
def _reader(search: Search) -> Iterator[Reader]:
    with _cosmos() as cosmos, Reader(cosmos.endpoint, cosmos.credential, search=search) as reader:
        yield reader


# Ids, titles and names are others' words: they may look like markup and are printed as they are.


def _print_recommendations(found: list[Recommendation]) -> None:
    table = Table("", "item", "score", "title")
    for place, each in enumerate(found, 1):
        title = escape(each.title or "")
        table.add_row(str(place), escape(each.item_id), f"{each.score:.4f}", title)
    console.print(table)


def _print_history(events: list[Event]) -> None:
    if not events:
        console.print("Nothing has been promoted or rolled back yet.")
        return
    table = Table("", "when (UTC)", "what", "version", "instead of", "by", "why")
    for event in events:
        table.add_row(
            str(event.number),
            f"{event.at:%Y-%m-%d %H:%M:%S}",
            event.action,
            *(escape(word or "-") for word in (event.version, event.replaced, event.who)),
            escape(_reasons(event)),
        )
    console.print(table)


def _reasons(event: Event) -> str:
    """Why it was done, and what gates held against it."""
    # What did not pass begins with its outcome; of a dozen gates that did, the number says enough.
    held = [gate for gate in event.gates if gate.startswith(("warn: ", "refuse: "))]
    every = len(event.gates)
    passed = f"{every - len(held)} of {every} gates passed" if every else None
    return "; ".join(filter(None, (event.why, *held, passed))) or "-"


def _print_control(control: Control) -> None:
    table = Table("", "slot", "version", "items", "since (UTC)", "by")
    for name, part in (("active", control.active), ("previous", control.previous)):
        if part is None:
            table.add_row(name, "-")
            continue
        since = f"{part.promoted_at:%Y-%m-%d %H:%M:%S}"
        version, who = escape(part.version), escape(part.promoted_by)
        table.add_row(name, part.slot, version, f"{part.items:,}", since, who)
    if (loading := control.loading) is not None:
        lease = f"lease to {loading.expires_at:%H:%M:%S}"
        holder = escape(loading.holder)
        table.add_row("loading", loading.slot, escape(loading.version), "", lease, holder)
    else:
        table.add_row("loading", "-")
    console.print(table)
