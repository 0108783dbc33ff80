"""The images: built from what is in the repository, run by their own user on a read-only root."""

from __future__ import annotations

import importlib
import json
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from infra.local import published_keys
from infra.local.process import free_port
from infra.local.services import cosmos_server
from tests.infra.contained import Contained, why_not
from tests.infra.dockerfile import ROOT, in_context, instructions, stages

DOCKERFILE = ROOT / "docker" / "Dockerfile"
STAGES = stages(DOCKERFILE)
TARGETS = ("preprocess", "train", "export", "worker")
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
contained = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def tracked() -> list[str]:
    said = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [name for name in said.split("\0") if name and (ROOT / name).is_file()]


def verbs() -> dict[str, Any]:
    app = importlib.import_module("pipelines.cli.app")
    for module in app._VERBS:
        importlib.import_module(f"pipelines.cli.{module}")
    return dict(typer.main.get_command(app.app).commands)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_is_unprivileged_healthy_and_labelled(target):
    stage = STAGES[target]
    assert stage.user == "10001:10001"
    assert stage.healthcheck[0] == "hyperrec-entrypoint"
    prefix = "org.opencontainers.image"
    assert stage.labels[f"{prefix}.version"] == "${VERSION}"
    assert stage.labels[f"{prefix}.revision"] == "${REVISION}"
    assert re.fullmatch(r"python:\$\{PYTHON\}", stage.base)


def test_the_base_is_a_python_that_the_package_supports():
    (argument,) = [rest for word, rest in instructions(DOCKERFILE.read_text())[:2] if word == "ARG"]
    (version,) = re.findall(r"^PYTHON=(3\.\d+)\.\d+-slim-bookworm$", argument)
    assert f'requires-python = ">={version},' in (ROOT / "pyproject.toml").read_text()
    # Packages are looked for by that version's name.
    assert set(re.findall(r"lib/python([\d.]+)/", DOCKERFILE.read_text())) == {version}


@pytest.mark.parametrize("target", TARGETS)
def test_a_targets_command_exists(target):
    stage = STAGES[target]
    assert stage.entrypoint == ("tini", "--", "hyperrec-entrypoint")
    assert "tini=" in stage.installed
    word = stage.command[0]
    script = (ROOT / "docker" / "entrypoint.sh").read_text()
    if word in verbs():
        assert stage.command == (word, "--help")
    else:
        assert f"{word} |" in script
    for check in (STAGES[target].healthcheck[1], "executor"):
        assert f"    {check})" in script


def test_spark_runs_where_java_is():
    for target in TARGETS:
        assert ("openjdk-17-jre-headless=" in STAGES[target].installed) == (
            target in {"preprocess", "worker"}
        )
    # On the PATH: Debian's folder of it ends in amd64 here and in arm64 there.
    assert "/usr/bin" in STAGES["preprocess"].env["PATH"].split(":")
    assert all("JAVA_HOME" not in stage.env for stage in STAGES.values())
    assert not re.search("amd64|x86_64", DOCKERFILE.read_text())


def test_everything_is_built_from_the_lock_file():
    text = DOCKERFILE.read_text()
    installs = re.findall(r"pip install (?:[^\n]|\\\n)*", text)
    assert len(installs) == 4
    assert all("--constraint constraints.txt" in install for install in installs)
    pinned = re.findall(r"^[A-Za-z0-9._-]+==\S+$", (ROOT / "constraints.txt").read_text(), re.M)
    assert {line.split("==")[0] for line in pinned} >= {"torch", "pyspark", "prefect-kubernetes"}
    assert re.findall(r"apt-get install [^\\&]*(?:\\\n[^\\&]*)*", text)
    for packages in re.findall(r"--no-install-recommends ([^\\\n]+)", text):
        assert all("=" in package for package in packages.split()), packages


def test_what_is_copied_is_in_the_context():
    copied = [name for stage in STAGES.values() for name in stage.copied]
    assert {"constraints.txt", "pyproject.toml", "docker/entrypoint.sh"} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists(), name
        assert in_context(name), name
    packages = re.search(r"^include = (.+)$", (ROOT / "pyproject.toml").read_text(), re.M)
    assert packages is not None
    assert {name.rstrip("*") for name in json.loads(packages[1])} <= set(copied)


def test_the_context_holds_code_and_nothing_else():
    names = tracked()
    modules = [n for n in names if n.endswith(".py") and not n.startswith("tests/")]
    assert [name for name in modules if not in_context(name)] == []
    assert all(in_context(f"pipelines/profiles/{name}.toml") for name in ("default",))
    for name in (
        ".git/config",
        ".hyperrec/compose/api",
        ".venv/bin/python",
        "infra/azure/outputs.json",
        "infra/azure/.terraform/terraform.tfstate",
        "infra/local/node_modules/azurite/package.json",
        "tests/infra/test_images.py",
    ):
        assert not in_context(name), name


INFRASTRUCTURE = ("docker/", "infra/azure/", "infra/kubernetes/", "infra/databricks/", ".github/")


def test_nothing_is_called_latest():
    for name in tracked():
        if name.startswith(INFRASTRUCTURE):
            found = re.findall(r"[:-]latest\b", (ROOT / name).read_text())
            assert found == [], name


def test_no_secret_is_in_a_file():
    patterns = (
        r"AccountKey=", r"-----BEGIN [A-Z ]*PRIVATE KEY", r"\bsig=[A-Za-z0-9%]{20}",
        r"(?i)(password|secret|token)\s*[:=]\s*[\"'][^\"'${}\s]{8,}[\"']",
        re.escape(published_keys.AZURITE_KEY), re.escape(published_keys.COSMOS_KEY),
    )  # fmt: skip
    for name in tracked():
        if name.startswith(INFRASTRUCTURE):
            for pattern in patterns:
                assert re.findall(pattern, (ROOT / name).read_text()) == [], (name, pattern)


def test_compose_runs_the_images_as_the_cluster_does():
    for name, service in COMPOSE["services"].items():
        assert service["read_only"] is True or name == "cosmos", name
        assert service["cap_drop"] == ["ALL"]
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
        assert re.search(r":[\w.${}:-]*\d", service["image"]), name
    ours = [s for s in COMPOSE["services"].values() if "build" in s]
    assert {s["build"]["target"] for s in ours} <= set(TARGETS)
    worker = COMPOSE["services"]["worker"]
    command = list(STAGES["worker"].command)
    assert worker["command"][: len(command) - 1] == command[:-1]


def test_compose_names_variables_that_the_code_reads():
    script = (ROOT / "docker" / "entrypoint.sh").read_text()
    read = {
        name.upper()
        for name in importlib.import_module("pipelines.settings").Environment.model_fields
    }
    for service in COMPOSE["services"].values():
        for name in service.get("environment", {}):
            if name.endswith("_FILE") and not name.startswith("POSTGRES_"):
                assert name.removesuffix("_FILE") in script
            elif name.startswith(("AZURE_", "COSMOS_", "HYPERREC_")):
                assert name in read


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("volume") / "state"


@contained
@pytest.mark.parametrize("target", ["preprocess", "train", "export"])
def test_a_target_starts_with_its_own_command(target, state):
    stage = STAGES[target]
    done = Contained(stage, state).run(*stage.command)
    assert done.returncode == 0, done.stderr
    assert f"hyperrec {target}" in done.stdout


@contained
def test_health_is_whether_the_volumes_can_be_written_to(state):
    here = Contained(STAGES["export"], state)
    assert here.run("healthy").returncode == 0
    done = here.run("healthy", more={"HYPERREC_HOME": "/opt/project"})
    assert done.returncode == 1
    assert done.stderr == "/opt/project cannot be written to: mount a volume there.\n"


@contained
def test_the_project_and_the_root_cannot_be_written_to(state):
    code = (
        "import os, pathlib\n"
        "for folder in ('/opt/project', '/opt/venv', '/', '/etc', '/usr/local', '/var/lib'):\n"
        "    try:\n"
        "        (pathlib.Path(folder) / 'x').write_text('')\n"
        "    except OSError as error:\n"
        "        print(folder, error.errno)\n"
        "print(os.getuid(), os.getgid(), os.getcwd())"
    )
    done = Contained(STAGES["export"], state).run("python", "-c", code)
    lines = done.stdout.splitlines()
    assert len(lines) == 7, done.stdout + done.stderr
    # EROFS or EACCES.
    assert all(line.split()[1] in {"30", "13"} for line in lines[:-1])
    assert lines[-1] == "10001 10001 /var/lib/hyperrec"


@contained
def test_secrets_come_from_files(state):
    here = Contained(STAGES["worker"], state)
    assert here.run("healthy").returncode == 0
    (state / "auth").write_text("operator:drawn\n")
    done = here.run(
        "python",
        "-c",
        "import os; print(os.environ['PREFECT_API_AUTH_STRING'], *os.environ)",
        more={"PREFECT_API_AUTH_STRING_FILE": "/var/lib/hyperrec/auth"},
    )
    assert done.stdout.startswith("operator:drawn ")
    assert "PREFECT_API_AUTH_STRING_FILE" not in done.stdout


@contained
def test_an_executor_starts_as_sparks_own_image_starts_it(state):
    """As far as the driver's address, where nobody answers."""
    done = Contained(STAGES["preprocess"], state).run(
        "executor",
        more={
            "SPARK_DRIVER_URL": f"spark://CoarseGrainedScheduler@127.0.0.1:{free_port()}",
            "SPARK_EXECUTOR_ID": "1",
            "SPARK_EXECUTOR_CORES": "1",
            "SPARK_EXECUTOR_MEMORY": "256m",
            "SPARK_APPLICATION_ID": "spark-test",
            "SPARK_EXECUTOR_POD_IP": "127.0.0.1",
            "SPARK_EXECUTOR_POD_NAME": "executor-1",
            "SPARK_RESOURCE_PROFILE_ID": "0",
            "SPARK_JAVA_OPT_0": "-Dspark.rpc.numRetries=1",
            "SPARK_JAVA_OPT_1": "-XX:TieredStopAtLevel=1",
        },
    )
    assert done.returncode != 0
    assert "KubernetesExecutorBackend" in done.stderr
    assert "Connection refused" in done.stderr
    assert "Usage" not in done.stderr


RUNS = ("--runs", "/var/lib/hyperrec/runs")


@pytest.fixture(scope="module")
def run_id(state: Path) -> str:
    """A run that the image of the flows has preprocessed, on its volume."""
    flow = Contained(STAGES["preprocess"], state)
    made = flow.run(
        *("synthesise", "--to", "/var/lib/hyperrec/raw", "--users", "150", "--items", "60"),
        *("--interactions", "2000", "--days", "30", "--last-day", "2024-06-30"),
    )
    assert made.returncode == 0, made.stderr
    done = flow.run(
        *("preprocess", "--input", "/var/lib/hyperrec/raw", "--as-of", "2024-06-30"),
        *(*RUNS, "--set", "train.epochs=1"),
    )
    assert done.returncode == 0, done.stderr
    (found,) = (path.parent.name for path in (state / "runs").glob("*/run.json"))
    return found


@contained
@pytest.mark.slow
@pytest.mark.heavy  # a minute of Java; CI reads what the image is made of
def test_spark_runs_in_its_image(run_id, state):
    manifest = json.loads((state / "runs" / run_id / "preprocess" / "manifest.json").read_text())
    assert manifest["metrics"]["rows_kept"] == 2000


@contained
@pytest.mark.heavy
def test_a_night_from_image_to_image(run_id, state, tmp_path):
    """Each stage by the command of its image, on the volume alone; kernels are compiled anew."""
    train = Contained(STAGES["train"], state).run("train", run_id, *RUNS)
    assert train.returncode == 0, train.stderr
    with cosmos_server(tmp_path / "cosmos") as endpoint:
        stores = {"COSMOS_ENDPOINT": endpoint}
        export = Contained(STAGES["export"], state)
        judged = export.run("evaluate", run_id, *RUNS)
        assert judged.returncode == 0, judged.stderr
        priced = export.run("export", run_id, *RUNS, "--dry-run", more=stores)
        # A model of one epoch may be refused; either way the image's command has said it.
        assert priced.returncode == 0 or "is not published" in priced.stderr, priced.stderr


@contained
@pytest.mark.heavy
def test_a_worker_waits_for_work_and_says_that_it_is_well(state, tmp_path):
    port, health = free_port(), free_port()
    api = f"http://127.0.0.1:{port}/api"
    here = Contained(STAGES["worker"], state)
    server = here.start(["prefect", "server", "start", "--port", str(port), "--no-ui"])
    worker = None
    try:
        until(lambda: here.run("answers", f"{api}/health").returncode == 0)
        worker = here.start(
            [*STAGES["worker"].command, "--type", "process"],
            {"PREFECT_API_URL": api, "PREFECT_WORKER_WEBSERVER_PORT": str(health)},
        )
        until(lambda: here.run("answers", f"http://127.0.0.1:{health}/health").returncode == 0)
        assert worker.poll() is None
    finally:
        for process in (worker, server):
            if process is not None:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=60)


def until(well: Any, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not well():
        assert time.monotonic() < end, "it did not become well in time"
        time.sleep(0.5)
