"""Make a Prefect server hold what hyperrec wants, and say what that changes.

Every kind of thing is read, compared field by field with what is wanted, and created or changed
where it differs; a second time there is nothing to do. Things that hyperrec made and no longer
wants are removed on request. With `dry_run` nothing but reading happens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from pipelines.errors import PipelineError
from pipelines.flows import alerts, deployments
from pipelines.flows.api import call
from pipelines.flows.deployments import FLOWS, Target

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_PREFIX = "hyperrec-"
_BLOCK = "hyperrec-alerts"
_NO_BLOCK = "00000000-0000-0000-0000-000000000000"
# Long, or nobody's to read.
_NOT_SHOWN = {"parameter_openapi_schema", "base_job_template", "trigger", "actions", "url"}


@dataclass(frozen=True)
class Channel:
    """How people are told.

    Attributes:
        webhook: address that takes JSON by POST; a secret.
        block: an existing notification block instead, as type/name, such as sendgrid-email/ops.
        runbook: address of the runbook, which alerts link.
    """

    webhook: str | None = None
    block: str | None = None
    runbook: str = "infra/RUNBOOK.md"


@dataclass(frozen=True)
class Change:
    """One line of the difference."""

    what: Literal["created", "changed", "removed", "unchanged"]
    kind: str
    name: str
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = f": {'; '.join(self.fields)}" if self.fields else ""
        return f"{self.what:9} {self.kind} {self.name}{told}"


@dataclass(frozen=True)
class _Kind:
    """How one kind of thing is written: `found` maps names to ids and fields."""

    name: str
    found: Mapping[str, tuple[str, Mapping[str, Any]]]
    create: Callable[[str, Mapping[str, Any]], Any]
    update: Callable[[str, Mapping[str, Any], list[str]], Any]
    delete: Callable[[str], Any]


def apply(
    client: SyncPrefectClient,
    target: Target,
    channel: Channel,
    *,
    dry_run: bool = False,
    prune: bool = False,
    flows: tuple[deployments.FlowDeployment, ...] = FLOWS,
) -> list[Change]:
    """Create, change and (with `prune`) remove until the server holds what is wanted.

    Args:
        client: of the server.
        target: the place.
        channel: how people are told.
        dry_run: only say what would be done.
        prune: remove deployments and automations of hyperrec that are not wanted.
        flows: what to deploy.

    Returns:
        A line for each thing, those that stay as they are included.

    Raises:
        PipelineError: a pool of that name is of another type, or the server refuses.
    """
    changes: list[Change] = []

    def settle(kind: _Kind, wanted: Mapping[str, Mapping[str, Any]]) -> None:
        changes.extend(_settle(kind, wanted, dry_run=dry_run, prune=prune))

    pools = deployments.pools(target)
    settle(_pools(client, pools), pools)
    sender = _sender(client, channel, settle)
    settle(_deployments(client), {f.full_name: deployments.deployment(f, target) for f in flows})
    made = alerts.automations(sender, runbook=channel.runbook)
    # Whoever deploys without the secret neither changes nor removes the alerts that are there.
    left = set() if sender else {alert.name for alert in alerts.alerts()}
    settle(_automations(client, left), {a.name: _plain(a) for a in made})
    return changes


def _settle(
    kind: _Kind, wanted: Mapping[str, Mapping[str, Any]], *, dry_run: bool, prune: bool
) -> Iterator[Change]:
    for name, fields in wanted.items():
        if name not in kind.found:
            if not dry_run:
                kind.create(name, fields)
            yield Change("created", kind.name, name)
            continue
        identity, have = kind.found[name]
        differing = [field for field in fields if _differs(fields[field], have.get(field))]
        if differing and not dry_run:
            kind.update(identity, fields, differing)
        told = tuple(_told(field, have.get(field), fields[field]) for field in differing)
        yield Change("changed" if differing else "unchanged", kind.name, name, told)
    for name, (identity, _) in kind.found.items():
        if prune and name not in wanted:
            if not dry_run:
                kind.delete(identity)
            yield Change("removed", kind.name, name)


def _pools(client: SyncPrefectClient, wanted: Mapping[str, Mapping[str, Any]]) -> _Kind:
    answer = call(client, "POST", "/work_pools/filter", {})
    # Pools are never removed: runs of other people may wait in them.
    found = {pool["name"]: (pool["name"], pool) for pool in answer if pool["name"] in wanted}
    for name, (_, pool) in found.items():
        if pool["type"] != wanted[name]["type"]:
            raise PipelineError(
                f"The work pool {name} is of the type {pool['type']}, not {wanted[name]['type']}, "
                f"which cannot be changed: delete it (`prefect work-pool delete {name}`) and "
                "deploy again, or give its type."
            )
    return _Kind(
        "work pool",
        found,
        create=lambda name, fields: call(client, "POST", "/work_pools/", {"name": name, **fields}),
        update=lambda name, fields, differing: call(
            client, "PATCH", f"/work_pools/{quote(name)}", {f: fields[f] for f in differing}
        ),
        delete=lambda _: None,
    )


def _deployments(client: SyncPrefectClient) -> _Kind:
    asked = {"deployments": {"tags": {"all_": [alerts.TAG]}}, "limit": 200}
    answer = call(client, "POST", "/deployments/filter", asked)
    flows = {flow["id"]: flow["name"] for flow in call(client, "POST", "/flows/filter", asked)}
    found = {}
    for each in answer:
        limit = each.get("global_concurrency_limit") or {}
        fields = each | {
            "concurrency_limit": limit.get("limit"),
            "concurrency_options": {
                "collision_strategy": (each.get("concurrency_options") or {}).get(
                    "collision_strategy"
                )
            },
            "tags": sorted(each["tags"]),
            "schedules": [
                {"slug": s["slug"], "schedule": s["schedule"]} for s in each["schedules"]
            ],
        }
        found[f"{flows[each['flow_id']]}/{each['name']}"] = (each["id"], fields)

    def create(name: str, fields: Mapping[str, Any]) -> None:
        flow = call(client, "POST", "/flows/", {"name": name.partition("/")[0]})
        active = [{**schedule, "active": True} for schedule in fields["schedules"]]
        body = {**fields, "flow_id": flow["id"], "schedules": active}
        call(client, "POST", "/deployments/", body)

    def update(identity: str, fields: Mapping[str, Any], differing: list[str]) -> None:
        # A schedule is found by its slug and keeps what operators have set: whether it is active.
        # Parameters and their schema are checked together.
        together = {"parameters", "parameter_openapi_schema", "work_pool_name"}
        sent = {f: fields[f] for f in {*differing, *together}}
        call(client, "PATCH", f"/deployments/{identity}", sent)

    return _Kind(
        "deployment",
        found,
        create=create,
        update=update,
        delete=lambda identity: call(client, "DELETE", f"/deployments/{identity}"),
    )


def _automations(client: SyncPrefectClient, left: set[str]) -> _Kind:
    from prefect.events.schemas.automations import Automation  # noqa: PLC0415

    answer = call(client, "POST", "/automations/filter", {"limit": 200})
    found = {
        each["name"]: (each["id"], each | _plain(Automation.model_validate(each)))
        for each in answer
        if each["name"].startswith(_PREFIX) and each["name"] not in left
    }

    def update(identity: str, fields: Mapping[str, Any], _differing: list[str]) -> None:
        muted = {"enabled": next(h["enabled"] for i, h in found.values() if i == identity)}
        call(client, "PUT", f"/automations/{identity}", {**fields, **muted})

    return _Kind(
        "automation",
        found,
        create=lambda _, fields: call(client, "POST", "/automations/", fields),
        update=update,
        delete=lambda identity: call(client, "DELETE", f"/automations/{identity}"),
    )


def _plain(automation: Any) -> dict[str, Any]:
    """An automation's fields as the API writes them; sets, which have no order, in one."""
    fields: dict[str, Any] = automation.model_dump(
        mode="json", include={"name", "description", "trigger", "actions"}
    )
    for each in ("expect", "after", "for_each"):
        fields["trigger"][each] = sorted(fields["trigger"][each])
    return fields


def _sender(
    client: SyncPrefectClient, channel: Channel, settle: Callable[..., None]
) -> alerts.Sender | None:
    """How alerts go out; a webhook's block is made to hold its address, and found again."""
    if channel.block is not None:
        kind, _, name = channel.block.partition("/")
        return alerts.by_notification(_block(client, kind, name, required=True)["id"])
    block = _block(client, "webhook", _BLOCK)
    if channel.webhook is None:
        return alerts.by_webhook(block["id"]) if block else None
    wanted = {_BLOCK: {"url": channel.webhook}}
    found = {_BLOCK: (block["id"], block["data"])} if block else {}

    def save(_identity: str, fields: Mapping[str, Any], _differing: Any = None) -> None:
        from prefect.blocks.webhook import Webhook  # noqa: PLC0415

        headers = {"Content-Type": "application/json"}
        Webhook(url=fields["url"], headers=headers).save(_BLOCK, overwrite=True)

    settle(_Kind("block", found, create=save, update=save, delete=lambda _: None), wanted)
    block = _block(client, "webhook", _BLOCK)
    return alerts.by_webhook(block["id"] if block else _NO_BLOCK)


def _block(
    client: SyncPrefectClient, kind: str, name: str, *, required: bool = False
) -> dict[str, Any]:
    """A block document with its secrets; nothing where there is none."""
    asked = {"block_documents": {"name": {"any_": [name]}}, "include_secrets": True}
    for block in call(client, "POST", "/block_documents/filter", asked):
        if block["block_type"]["slug"] == kind:
            found: dict[str, Any] = block
            return found
    if required:
        raise PipelineError(
            f"There is no block {kind}/{name} at this Prefect server: make it on the page Blocks "
            "of its user interface, or give its type and name as TYPE/NAME."
        )
    return {}


def _differs(wanted: Any, found: Any) -> bool:
    return json.dumps(wanted, sort_keys=True) != json.dumps(found, sort_keys=True)


def _told(field: str, found: Any, wanted: Any) -> str:
    if field in _NOT_SHOWN:
        return f"{field} changed"
    before, after = (_short(value) for value in (found, wanted))
    return f"{field} {before} -> {after}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:197]}..."
