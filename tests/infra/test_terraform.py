"""What Terraform declares is what the code uses, and whom it lets in is nobody more."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import hcl2
import pytest

from pipelines.profile import load_profile
from pipelines.runs import STAGES, RunRecord
from serving_export import containers

AZURE = Path(__file__).resolve().parents[2] / "infra" / "azure"
FILES = sorted([*AZURE.rglob("*.tf"), *AZURE.glob("*.tfvars")])
TERRAFORM = shutil.which("terraform")


def plain(value: Any) -> Any:
    """As HCL means it: strings without their quotes, blocks without the parser's own notes."""
    if isinstance(value, str):
        return value.strip('"')
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {plain(k): plain(v) for k, v in value.items() if not plain(k).startswith("__")}
    return value


@lru_cache  # the parser takes its time
def read(path: Path) -> dict[str, Any]:
    with path.open() as file:
        found: dict[str, Any] = plain(hcl2.load(file))
    return found


def resources(module: str) -> dict[str, dict[str, Any]]:
    """Resources of a module, by type.name."""
    return {
        f"{kind}.{name}": body
        for found in read(AZURE / "modules" / module / "main.tf").get("resource", [])
        for kind, named in found.items()
        for name, body in named.items()
    }


def locals_of(module: str) -> dict[str, Any]:
    found: dict[str, Any] = read(AZURE / "modules" / module / "main.tf")["locals"][0]
    return found


def variables() -> dict[str, Any]:
    found = read(AZURE / "variables.tf")["variable"]
    return {name: body for one in found for name, body in one.items()}


def with_values(value: Any, values: dict[str, Any]) -> Any:
    """References replaced by what they are in one case."""
    if isinstance(value, dict):
        return {key: with_values(part, values) for key, part in value.items()}
    if isinstance(value, list):
        return [with_values(part, values) for part in value]
    if isinstance(value, str):
        for name, known in values.items():
            if value == f"${{{name}}}":
                return known
            value = value.replace(f"${{{name}}}", str(known))
    return value


def container(body: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """A declared container in the words of serving_export.containers."""
    said = with_values(body, values)
    resource = said["body"]["properties"]["resource"]
    assert said["name"] == resource["id"]
    assert resource["partitionKey"]["kind"] == "Hash"
    # Version 1 keys are cut at 101 bytes.
    assert resource["partitionKey"]["version"] == 2
    (path,) = resource["partitionKey"]["paths"]
    found = {"id": resource["id"], "partition_key": path}
    names = {
        "vectorEmbeddingPolicy": "vector_embedding_policy",
        "indexingPolicy": "indexing_policy",
    }
    assert set(resource) <= {"id", "partitionKey", *names}
    return found | {names[name]: resource[name] for name in names if name in resource}


def test_every_file_parses():
    assert len(FILES) > 20
    for path in FILES:
        assert read(path), path


@pytest.mark.parametrize("dimensions", [51, 505, 506])
def test_containers_are_those_of_the_code(dimensions):
    items = 100_000
    found, local = resources("cosmos"), locals_of("cosmos")
    control = container(found["azapi_resource.control"], {"local.control": local["control"]})
    slot = found["azapi_resource.slot"]
    assert slot["for_each"] == "${toset(local.slots)}"
    slots = [
        container(
            slot,
            {
                "each.value": name,
                "var.dimensions": dimensions,
                "local.vector_index": containers.vector_index(dimensions, items),
            },
        )
        for name in local["slots"]
    ]
    assert [control, *slots] == containers.definitions(dimensions, items)
    assert local["database"] == containers.DATABASE
    database = found["azurerm_cosmosdb_sql_database.this"]
    assert database["name"] == "${local.database}"


def test_limits_of_dimensions_are_those_of_the_code():
    local = locals_of("cosmos")
    assert local["flat_dimensions"] == containers.FLAT_DIMENSIONS
    assert local["quantized_items"] == containers.QUANTIZED_ITEMS
    (rule,) = variables()["dimensions"]["validation"]
    assert f"var.dimensions <= {containers.MOST_DIMENSIONS}" in rule["condition"]


@pytest.mark.skipif(TERRAFORM is None, reason="needs terraform to evaluate its expressions")
def test_the_vector_index_is_chosen_as_by_the_code(tmp_path):
    text = (AZURE / "modules" / "cosmos" / "main.tf").read_text()
    (tmp_path / "main.tf").write_text(text[text.index("locals {") : text.index("\nresource ")])
    names = ("dimensions", "items")
    (tmp_path / "variables.tf").write_text(
        "".join(f'variable "{name}" {{ type = number }}\n' for name in names)
    )
    cases = [(1, 1), (505, 10**6), (506, 50_000), (506, 50_001), (4096, 10**6)]
    for dimensions, items in cases:
        said = subprocess.run(
            [TERRAFORM, "console", f"-var=dimensions={dimensions}", f"-var=items={items}"],
            cwd=tmp_path,
            input="local.vector_index\n",
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert json.loads(said) == containers.vector_index(dimensions, items), said


@pytest.mark.skipif(TERRAFORM is None, reason="needs terraform")
def test_files_are_formatted():
    command = [TERRAFORM, "fmt", "-check", "-recursive", AZURE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_an_environment_holds_the_default_model(environment):
    given = read(AZURE / f"{environment}.tfvars")
    assert given["dimensions"] == load_profile("default").train.model.dimensions + 1
    assert set(given) <= set(variables())
    # What is one's own, or secret, is given from outside.
    assert not {"subscription_id", "suffix", "owner", "administrators"} & set(given)
    assert given["pools"]["gpu"]["minimum"] == 0


def test_the_cosmos_account():
    account = resources("cosmos")["azurerm_cosmosdb_account.this"]
    assert account["local_authentication_disabled"] is True
    assert account["public_network_access_enabled"] is False
    assert account["backup"][0]["type"] == "Continuous"
    assert [c["name"] for c in account["capabilities"]] == ["EnableNoSQLVectorSearch"]
    for name in ("control", "slot"):
        options = resources("cosmos")[f"azapi_resource.{name}"]["body"]["properties"]["options"]
        assert set(options) == {"autoscaleSettings"}


def test_the_blob_account():
    found = resources("storage")
    account = found["azurerm_storage_account.this"]
    assert account["is_hns_enabled"] is True
    assert account["shared_access_key_enabled"] is False
    assert account["public_network_access_enabled"] is False
    properties = account["blob_properties"][0]
    assert properties["last_access_time_enabled"] is True
    assert properties["delete_retention_policy"][0]["days"] == "${var.soft_delete_days}"
    assert properties["container_delete_retention_policy"][0]["days"] == "${var.soft_delete_days}"


def test_lifecycle_rules_name_what_the_code_writes():
    rules = resources("storage")["azurerm_storage_management_policy.this"]["rule"]
    prefixes = {rule["name"]: rule["filters"][0]["prefix_match"] for rule in rules}
    record = RunRecord.identify(as_of=date(2026, 11, 20), source="", listing=[], configuration={})
    # What each rule is for, and what it must leave alone.
    written = {
        "runs": f"runs/{record.run_id}/preprocess/attempt/quarantine/part-0.parquet",
        "compacted": "runs/compacted/rules/input/2026-11-20/files/manifest.json",
    }
    assert set(prefixes) == set(written)
    for name, (prefix,) in prefixes.items():
        assert [rule for rule, path in written.items() if path.startswith(prefix)] == [name]
        assert not "raw/interactions/dt=2026-11-20/part.parquet".startswith(prefix)
    compact = (AZURE.parents[1] / "pipelines" / "preprocess" / "compact.py").read_text()
    assert 'f"compacted/{rules}/' in compact


def test_a_published_version_silences_the_dead_mans_switch():
    """The alert looks for the manifest that the export stage puts last."""
    query = locals_of("monitoring")["searches"]["no-version-published"]["query"]
    (suffix,) = re.findall(r'endswith "([^"]+)"', query)
    assert STAGES[-1] == "export"
    assert f"/account/runs/2026-11-20-0123456789/{STAGES[-1]}/manifest.json".endswith(suffix)
    logged = resources("storage")["azurerm_monitor_diagnostic_setting.blobs"]["enabled_log"]
    assert {"category": "StorageWrite"} in logged


READ, WRITE = "Storage Blob Data Reader", "Storage Blob Data Contributor"


def test_roles_are_what_each_stage_needs_and_no_more():
    local = locals_of("identity")
    given = {
        place: {who: with_values(role, {"local.read": READ, "local.write": WRITE})
                for who, role in local[place].items()}
        for place in ("raw", "runs", "cosmos")
    }  # fmt: skip
    assert (local["read"], local["write"]) == (READ, WRITE)
    assert given["raw"] == {"preprocess": READ, "flow": READ}
    assert given["runs"] == dict.fromkeys((*STAGES, "flow"), WRITE)
    assert given["cosmos"] == {
        "evaluate": "reader",
        "export": "contributor",
        "flow": "contributor",
    }
    # The service's own definitions.
    assert local["cosmos_roles"] == {
        "reader": "00000000-0000-0000-0000-000000000001",
        "contributor": "00000000-0000-0000-0000-000000000002",
    }


def test_nobody_else_is_given_a_role():
    given = {
        (module.name, *name.split(".")): (body["scope"], body.get("role_definition_name"))
        for module in sorted((AZURE / "modules").iterdir())
        for name, body in resources(module.name).items()
        if "role_assignment" in name
    }
    of_azure, of_data = "azurerm_role_assignment", "azurerm_cosmosdb_sql_role_assignment"
    assert given == {
        ("identity", of_azure, "raw"): ("${var.raw_container_id}", "${each.value}"),
        ("identity", of_azure, "runs"): ("${var.runs_container_id}", "${each.value}"),
        ("identity", of_azure, "vault"): ("${var.vault_id}", "Key Vault Secrets User"),
        ("identity", of_data, "stage"): ("${var.database_scope}", None),
        ("identity", of_data, "reader"): ("${var.database_scope}", None),
        ("cluster", of_azure, "pull"): ("${var.registry_id}", "AcrPull"),
        ("cluster", of_azure, "network"): ("${var.network_id}", "Network Contributor"),
    }
    reader = resources("identity")["azurerm_cosmosdb_sql_role_assignment.reader"]
    assert reader["role_definition_id"].endswith('${local.cosmos_roles["reader"]}')
    outputs = read(AZURE / "modules" / "cosmos" / "outputs.tf")["output"]
    (scope,) = (o["database_scope"]["value"] for o in outputs if "database_scope" in o)
    assert scope.endswith("/dbs/${azurerm_cosmosdb_sql_database.this.name}")


def test_outputs_feed_the_deployment():
    declared = {name for output in read(AZURE / "outputs.tf")["output"] for name in output}
    assert {
        "prefect_api_url",
        "input_url",
        "runs_url",
        "cosmos_endpoint",
        "storage_account_url",
        "work_pool_type",
        "image",
    } <= declared


def test_the_prefect_servers_database():
    server = resources("prefect")["azurerm_postgresql_flexible_server.this"]
    # Prefect asks for 14.9 or later.
    assert int(server["version"]) >= 15
    assert "administrator_password" not in server


def test_every_rule_passed_over_says_why():
    skipped = [
        line.strip()
        for path in AZURE.rglob("*.tf")
        for line in path.read_text().splitlines()
        if "checkov:skip" in line
    ]
    assert skipped
    for line in skipped:
        assert re.fullmatch(r"#checkov:skip=CKV2?_AZURE_\d+: .{20,}\.", line), line


def test_every_alert_names_a_section_of_the_operations_guide():
    guide = (AZURE.parent / "OPERATIONS.md").read_text()
    titles = set(re.findall(r"^#+ (.+)$", guide, flags=re.MULTILINE))
    local = locals_of("monitoring")
    alerts = {**local["searches"], **local["metrics"]}
    for name, alert in alerts.items():
        (title,) = re.findall(r"OPERATIONS.md, '([^']+)'", alert["description"])
        assert title in titles, name
