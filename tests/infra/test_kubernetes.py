"""The cluster's objects: valid by Kubernetes' and Prefect's own schemas, and about this code."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import hcl2
import kubernetes_validate
import pyspark
import pytest
import typer.main
import yaml
from prefect.client.schemas.objects import FlowRun
from prefect.utilities.templating import apply_values
from prefect_kubernetes.settings import KubernetesSettings
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

from infra.kubernetes.__main__ import HERE, OutputsError, render
from pipelines.flows.deployments import FLOWS, Target, deployment
from pipelines.settings import Environment

KUBERNETES = "1.33"
AZURE = HERE.parent / "azure"
ACCOUNTS = ("flow", "preprocess", "train", "evaluate", "export", "prefect")
VERSION = "1.2.3"


def outputs() -> dict[str, Any]:
    """What `terraform output -json` says after an apply; the names are those of outputs.tf."""
    targets = ("preprocess", "train", "export", "worker")
    images = {target: f"acr.azurecr.io/hyperrec-{target}:{VERSION}" for target in targets}
    said: dict[str, Any] = {
        "prefect_api_url": "http://prefect.hyperrec-dev.internal/api",
        "prefect_address": "10.64.15.160",
        "storage_account_url": "https://hyperrecdevabc.blob.core.windows.net",
        "input_url": "az://raw",
        "runs_url": "az://runs",
        "cosmos_endpoint": "https://hyperrecdevabc.documents.azure.com:443",
        "work_pool_type": "kubernetes",
        "image": images["preprocess"],
        "images": images,
        "registry": "acr.azurecr.io",
        "cluster": {"name": "hyperrec-dev", "resource_group": "hyperrec-dev"},
        "identities": {name: str(uuid4()) for name in ACCOUNTS},
        "tenant_id": str(uuid4()),
        "vault_name": "hyperrecdevabc",
    }
    return {name: {"value": value} for name, value in said.items()}


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return render(outputs())


@pytest.fixture(scope="module")
def objects(files: dict[str, str]) -> list[dict[str, Any]]:
    named = ("cluster.yaml", "preprocess.yaml")
    return [found for name in named for found in yaml.safe_load_all(files[name])]


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {found["metadata"]["name"]: found for found in objects if found["kind"] == kind}


def check(found: dict[str, Any]) -> None:
    kubernetes_validate.validate(found, KUBERNETES, strict=True)


def pods(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every pod's specification: of deployments, of jobs, of Spark's executors."""
    found = [o["spec"]["template"]["spec"] for o in objects if o["kind"] in {"Deployment", "Job"}]
    template = of_kind(objects, "ConfigMap")["spark"]["data"]["executor.yaml"]
    return [*found, yaml.safe_load(template)["spec"]]


def test_the_outputs_of_this_test_are_those_of_terraform():
    with (AZURE / "outputs.tf").open() as file:
        declared = {name.strip('"') for o in hcl2.load(file)["output"] for name in o}
    assert set(outputs()) == {name for name in declared if not name.startswith("__")}


def test_every_object_is_valid(objects):
    # Of an extension, whose schema is not Kubernetes' own.
    known = [o for o in objects if o["kind"] != "SecretProviderClass"]
    assert len(known) == len(objects) - 1
    for found in known:
        if found["kind"] == "Job":
            assert found["metadata"].pop("generateName") == "preprocess-"
        check(found)


def test_an_invalid_object_is_noticed(objects):
    broken = json.loads(json.dumps(of_kind(objects, "Deployment")["prefect-server"]))
    broken["spec"]["template"]["spec"]["containers"][0]["readonlyRootFilesystem"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        check(broken)


def test_what_fills_the_templates_is_found_missing():
    lacking = outputs()
    del lacking["vault_name"]
    with pytest.raises(OutputsError, match=r"have no vault_name, which server.yaml needs"):
        render(lacking)
    with pytest.raises(OutputsError, match="terraform output -json"):
        render({"vault_name": "plain"})


def test_the_command_writes_what_kubectl_and_deploy_read(tmp_path):
    given = tmp_path / "outputs.json"
    given.write_text(json.dumps(outputs()))
    command = [sys.executable, "-m", "infra.kubernetes", "--from", given, "--to", tmp_path / "out"]
    subprocess.run(command, check=True, capture_output=True)
    names = {"cluster.yaml", "preprocess.yaml", "pool-cpu.json", "pool-gpu.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names


def rendered(
    pool: str, files: dict[str, str], job_variables: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The job that a worker of the pool would make of a flow run."""
    template = json.loads(files[f"pool-{pool}.json"])
    values = {
        name: schema["default"]
        for name, schema in template["variables"]["properties"].items()
        if schema["default"] is not None
    }
    # What a deployment says of its own comes before the template's.
    assert set(job_variables or {}) <= set(template["variables"]["properties"])
    values |= job_variables or {}
    configuration = template["job_configuration"]
    filled = KubernetesWorkerJobConfiguration.model_validate(
        apply_values(template=configuration, values=values, remove_notset=True)
    )
    filled.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="2026-11-21 retrain"))
    job: dict[str, Any] = filled.job_manifest
    return job


@pytest.mark.parametrize(
    ("pool", "account", "target"), [("cpu", "flow", "preprocess"), ("gpu", "train", "train")]
)
def test_a_pool_makes_valid_jobs(pool, account, target, files, objects):
    job = rendered(pool, files)
    pod = job["spec"]["template"]["spec"]
    # Prefect insists on these two, which belong to the job and which the cluster's API passes over.
    assert (pod.pop("parallelism"), pod.pop("completions")) == (1, 1)
    check(job)
    assert pod["serviceAccountName"] == account
    container = pod["containers"][0]
    assert container["image"] == f"acr.azurecr.io/hyperrec-{target}:{VERSION}"
    assert container["args"][:2] == ["prefect", "flow-run"]
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert labels["azure.workload.identity/use"] == "true"
    assert "prefect.io/flow-run-id" in labels
    assert pod["nodeSelector"] == {"hyperrec.io/pool": pool}
    names = {entry["name"] for entry in container["env"]}
    assert "PREFECT_FLOWS_HEARTBEAT_FREQUENCY" in of_kind(objects, "ConfigMap")["stores"]["data"]
    assert ("HYPERREC_SPARK" in names) == (pool == "cpu")
    assert container["resources"]["limits"].get("nvidia.com/gpu") == (
        "1" if pool == "gpu" else None
    )


@pytest.mark.parametrize("wanted", FLOWS, ids=lambda wanted: f"{wanted.flow}/{wanted.name}")
def test_every_deployment_becomes_a_valid_job(wanted, files):
    target = Target(
        source="az://raw",
        runs="az://runs",
        pool_type="kubernetes",
        image=f"acr.azurecr.io/hyperrec-preprocess:{VERSION}",
        environment={"COSMOS_ENDPOINT": "https://hyperrecdevabc.documents.azure.com:443"},
    )
    pool = wanted.pool.removeprefix("hyperrec-")
    job = rendered(pool, files, deployment(wanted, target)["job_variables"])
    pod = job["spec"]["template"]["spec"]
    del pod["parallelism"], pod["completions"]
    check(job)
    image = "train" if pool == "gpu" else "preprocess"
    assert pod["containers"][0]["image"] == f"acr.azurecr.io/hyperrec-{image}:{VERSION}"
    names = [entry["name"] for entry in pod["containers"][0]["env"]]
    assert len(set(names)) == len(names)


def test_a_template_declares_every_variable_it_uses(files):
    for name in ("pool-cpu.json", "pool-gpu.json"):
        template = json.loads(files[name])
        used = re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"]))
        assert set(used) == set(template["variables"]["properties"]), name


def test_every_pod_is_unprivileged_and_writes_to_volumes_alone(objects, files):
    jobs = [rendered(pool, files)["spec"]["template"]["spec"] for pool in ("cpu", "gpu")]
    for pod in [*pods(objects), *jobs]:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert {"/var/lib/hyperrec", "/tmp"} <= mounted  # noqa: S108
        token = pod["automountServiceAccountToken"]
        assert token == (pod["serviceAccountName"] in {"flow", "worker"})


def test_accounts_are_terraforms_identities(objects):
    with (AZURE / "modules" / "identity" / "main.tf").open() as file:
        local = hcl2.load(file)["locals"][0]
    identities = {*local["runs"], "prefect"}
    accounts = of_kind(objects, "ServiceAccount")
    with_identity = {
        name for name, account in accounts.items() if account["metadata"].get("annotations")
    }
    assert with_identity == identities == set(ACCOUNTS)
    assert set(accounts) == identities | {"worker"}
    assert {a["metadata"]["namespace"] for a in accounts.values()} == {
        local["namespace"].strip('"')
    }


def test_pools_are_terraforms(objects, files):
    with (AZURE / "prod.tfvars").open() as file:
        pools = set(hcl2.load(file)["pools"])
    jobs = [rendered(pool, files)["spec"]["template"]["spec"] for pool in ("cpu", "gpu")]
    asked = {pod["nodeSelector"]["hyperrec.io/pool"] for pod in [*pods(objects), *jobs]}
    assert asked == {name for name in pools if not name.startswith("__")}
    for pod in [*pods(objects), *jobs]:
        pool = pod["nodeSelector"]["hyperrec.io/pool"]
        tolerated = {t["value"] for t in pod.get("tolerations", []) if "value" in t}
        assert pool == "services" or pool in tolerated


def tolerates(pod: dict[str, Any], key: str, value: str) -> bool:
    return any(
        toleration["key"] == key
        and (toleration["operator"] == "Exists" or toleration["value"] == value)
        for toleration in pod["tolerations"]
    )


def test_gpus_are_offered_where_training_asks_for_one(objects, files):
    """A driver alone is not enough: without the plugin no machine has an nvidia.com/gpu."""
    training = rendered("gpu", files)["spec"]["template"]["spec"]
    daemon = of_kind(objects, "DaemonSet")["nvidia-device-plugin"]
    plugin = daemon["spec"]["template"]["spec"]
    assert plugin["nodeSelector"] == training["nodeSelector"] == {"hyperrec.io/pool": "gpu"}
    text = (AZURE / "modules" / "cluster" / "main.tf").read_text()
    assert 'gpu_driver = each.key == "gpu" ? "Install"' in text
    taints = re.findall(r'"([^"=]+)=([^":]+):NoSchedule"', text)
    assert len(taints) == 3
    names = {"${local.label}": "hyperrec.io/pool", "${each.key}": "gpu"}
    for key, value in taints:
        taint = names.get(key, key), names.get(value, value)
        assert tolerates(plugin, *taint), taint
        assert tolerates(training, *taint), taint

    (container,) = plugin["containers"]
    image, _, version = container["image"].rpartition(":")
    assert image == "nvcr.io/nvidia/k8s-device-plugin"
    assert re.fullmatch(r"v\d+\.\d+\.\d+", version)
    (mount,), (volume,) = container["volumeMounts"], plugin["volumes"]
    assert mount["mountPath"] == volume["hostPath"]["path"] == "/var/lib/kubelet/device-plugins"


def test_only_the_namespace_of_the_plugin_may_mount_the_host(objects):
    enforced = {
        name: found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for name, found in of_kind(objects, "Namespace").items()
    }
    assert enforced == {"hyperrec": "restricted", "gpu": "privileged"}
    there = {(o["kind"], o["metadata"]["name"]) for o in objects
             if o["metadata"].get("namespace") == "gpu"}  # fmt: skip
    assert there == {("NetworkPolicy", "gpu"), ("DaemonSet", "nvidia-device-plugin")}
    closed = of_kind(objects, "NetworkPolicy")["gpu"]["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_the_jobs_environment_is_what_the_code_reads(objects):
    read = {name.upper() for name in Environment.model_fields}
    told = set(of_kind(objects, "ConfigMap")["stores"]["data"])
    assert {name for name in told if not name.startswith("PREFECT_")} <= read


def test_the_workers_settings_are_prefects(objects, monkeypatch):
    env = of_kind(objects, "Deployment")["worker-cpu"]["spec"]["template"]["spec"]["containers"][0][
        "env"
    ]
    for entry in env:
        monkeypatch.setenv(entry["name"], entry["value"])
    settings = KubernetesSettings()
    assert settings.observer.namespaces == {"hyperrec"}
    assert settings.worker.api_auth_string_secret_name == "prefect-auth"
    assert settings.worker.api_auth_string_secret_key == "auth"
    assert settings.cluster_uid == "hyperrec"


def test_the_guide_reaches_the_server_and_its_password(objects):
    """From outside the network: the service by name and port, and the secret that jobs use."""
    guide = (AZURE / "README.md").read_text().replace("\\\n    ", "")
    service = of_kind(objects, "Service")["prefect-server"]
    namespace, (port,) = service["metadata"]["namespace"], service["spec"]["ports"]
    assert (
        f"kubectl port-forward --namespace {namespace} service/prefect-server 4200:{port['port']}"
    ) in guide
    assert "export PREFECT_API_URL=http://127.0.0.1:4200/api\n" in guide
    (secret,) = of_kind(objects, "SecretProviderClass")["prefect"]["spec"]["secretObjects"]
    (key,) = (entry["key"] for entry in secret["data"])
    told = f"kubectl get secret {secret['secretName']} --namespace {namespace} "
    assert f"export PREFECT_API_AUTH_STRING=$({told}" in guide
    assert f"jsonpath='{{.data.{key}}}' | base64 --decode" in guide


def test_sparks_settings_are_known_to_this_spark(objects):
    """A setting that is misspelt, or gone in this version, is passed over without a word."""
    text = of_kind(objects, "ConfigMap")["spark"]["data"]["spark-defaults.conf"]
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    names = [line.split()[0] for line in lines]
    jars = Path(pyspark.__file__).parent / "jars"
    known = b""
    for jar, classes in {
        "spark-kubernetes": ("org/apache/spark/deploy/k8s/Config$.class",),
        "spark-core": (
            "org/apache/spark/internal/config/package$.class",
            "org/apache/spark/network/util/package.class",
        ),
    }.items():
        with zipfile.ZipFile(next(jars.glob(f"{jar}_*.jar"))) as archive:
            known += b"".join(archive.read(c) for c in classes if c in archive.namelist())

    def is_known(name: str) -> bool:
        # Those of sign-in are put together of a prefix and a last word.
        prefix, _, last = name.rpartition(".")
        together = prefix.startswith("spark.kubernetes.authenticate") and prefix.encode() in known
        return name.encode() in known or (together and f".{last}".encode() in known)

    assert [name for name in names if not is_known(name)] == []
    assert not is_known("spark.kubernetes.executor.instances")
    template = yaml.safe_load(of_kind(objects, "ConfigMap")["spark"]["data"]["executor.yaml"])
    template["metadata"]["name"] = "executor"
    template["spec"]["containers"][0]["image"] = "filled by Spark"
    check(template)


def test_databricks_submits_a_verb_that_exists():
    job = json.loads((HERE.parent / "databricks" / "job.json").read_text())
    task = job["tasks"][0]["python_wheel_task"]
    declared = {parameter["name"] for parameter in job["parameters"]}
    used = set(re.findall(r"job\.parameters\.(\w+)", " ".join(task["parameters"])))
    assert used == declared
    words = [word for word in task["parameters"] if word.startswith("--")]
    offered = {option for parameter in preprocess_command().params for option in parameter.opts}
    assert set(words) <= offered


def test_databricks_trains_on_no_day_that_is_not_named():
    """The day of the job's start, which Databricks could fill in, is not over."""
    job = json.loads((HERE.parent / "databricks" / "job.json").read_text())
    # The service wants a default of every parameter: this one is no day.
    (default,) = (p["default"] for p in job["parameters"] if p["name"] == "as_of")
    assert "{{" not in default
    words = ["--input", "az://raw", "--as-of"]
    command = preprocess_command()
    assert command.make_context("preprocess", [*words, "2026-11-20"])
    with pytest.raises(typer.BadParameter, match=f"'{default}' does not match the formats"):
        command.make_context("preprocess", [*words, default])


def preprocess_command() -> Any:
    stage = importlib.import_module("pipelines.cli.stage")
    return typer.main.get_command(stage.app).commands["preprocess"]
