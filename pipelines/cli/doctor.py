"""`hyperrec doctor`: what this machine lacks, and how to get it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import typer
from rich.markup import escape
from rich.table import Table

from pipelines.cli.app import app
from pipelines.cli.show import console
from pipelines.errors import PipelineError

State = Literal["ok", "missing", "note"]

# What the addresses of clusters mean when they name no port.
_PORTS = {"spark": 7077, "k8s": 443, "sc": 15002}


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `missing` keeps the main job from running, `note` does not."""

    thing: str
    state: State
    found: str
    advice: str = ""


@app.command()
def doctor() -> None:
    """Say what is missing or wrong on this machine (exit code 1 when something needed is)."""
    looks = (_python, _java, _spark, _node, _gpu, _memory, _ports, _services, _cosmos, _blobs)
    findings = [look() for look in looks]
    table = Table("", "", "found", "what to do")
    marks = {"ok": "ok", "missing": "[bold]MISSING[/bold]", "note": "note"}
    for finding in findings:
        table.add_row(
            marks[finding.state], finding.thing, escape(finding.found), escape(finding.advice)
        )
    console.print(table)
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] < (3, 13)
    advice = "" if fits else "install Python 3.11 (Debian: apt-get install python3.11-venv)"
    return Finding("Python", "ok" if fits else "missing", found, advice)


def _java() -> Finding:
    from pipelines.preprocess.java import require_java  # noqa: PLC0415
    from pipelines.settings import Environment  # noqa: PLC0415

    try:
        found = require_java()
    except PipelineError as error:
        needed = not Environment().hyperrec_spark.startswith("sc://")
        state: State = "missing" if needed else "note"
        return Finding("Java", state, "none that Spark can use", str(error))
    return Finding("Java", "ok", found)


def _spark() -> Finding:
    from pipelines.settings import Environment  # noqa: PLC0415

    env = Environment()
    scheme, _, address = env.hyperrec_spark.partition("://")
    if not address:
        where = {"local": "in this process", "submit": "in a spark-submit child"}[scheme]
        heap = env.hyperrec_spark_memory or "half of the memory, at most 4 GB"
        return Finding("Spark", "ok", f"{where}; heap {heap}")
    # The first of several masters; after a semicolon Spark Connect's address may hold a token.
    first = re.split("[;,]", address.rpartition("//")[2])[0]
    parts = urlsplit(f"//{first}")
    at = f"{scheme}://{parts.netloc}"
    try:
        port = parts.port or _PORTS[scheme]
        socket.create_connection((parts.hostname or "", port), timeout=3).close()
    except (OSError, ValueError) as error:
        advice = "start it there, or set HYPERREC_SPARK to where it runs"
        return Finding("Spark", "missing", f"{at} cannot be reached: {error}", advice)
    return Finding("Spark", "ok", f"{at} can be reached")


def _node() -> Finding:
    from infra.local import services  # noqa: PLC0415

    text = _output(["node", "--version"])
    if text is None:
        return Finding(
            "Node", "note", "none", "install Node 20 for Azurite; without it use file:// addresses"
        )
    if not services.azurite_installed():
        return Finding(
            "Azurite", "note", f"Node {text.strip()}", "give `make setup` to install Azurite"
        )
    return Finding("Node, Azurite", "ok", text.strip())


def _gpu() -> Finding:
    import torch  # noqa: PLC0415

    if torch.cuda.is_available():
        return Finding("GPU", "ok", torch.cuda.get_device_name())
    if shutil.which("nvidia-smi"):
        advice = "this PyTorch cannot use it: install the CUDA build of the locked version"
        return Finding("GPU", "note", f"a driver, but PyTorch {torch.__version__}", advice)
    return Finding("GPU", "ok", f"none; training uses {os.cpu_count()} CPU cores")


def _memory() -> Finding:
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    free = shutil.disk_usage(".").free / 2**30
    found = f"{gigabytes:.0f} GiB memory, {free:.0f} GiB disk free here"
    if gigabytes < 6 or free < 5:
        return Finding(
            "Memory, disk", "note", found, "6 GiB of memory and 5 GiB of disk are wanted"
        )
    return Finding("Memory, disk", "ok", found)


def _ports() -> Finding:
    from infra.local.process import free_port  # noqa: PLC0415

    try:
        port = free_port()
    except OSError as error:
        advice = "let programs listen on 127.0.0.1; the local services need two ports there"
        return Finding("Ports", "missing", f"none can be opened: {error.strerror}", advice)
    return Finding("Ports", "ok", f"127.0.0.1 has free ones, such as {port}")


def _services() -> Finding:
    from infra.local import services  # noqa: PLC0415
    from pipelines.settings import Environment  # noqa: PLC0415

    found = services.running(Environment().hyperrec_home)
    if found is None:
        return Finding("Local services", "note", "not running", "give `hyperrec up` to start them")
    addresses = f"{found.blob_endpoint or 'no Azurite'}, {found.cosmos_endpoint}"
    return Finding("Local services", "ok", addresses)


def _cosmos() -> Finding:
    from pipelines.settings import cosmos_account  # noqa: PLC0415
    from serving_export.errors import ExportError, MissingContainerError  # noqa: PLC0415
    from serving_export.publish import status  # noqa: PLC0415

    try:
        account = cosmos_account()
        active = status(account.endpoint, account.credential, patience=3.0).active
    except PipelineError as error:
        return Finding("Cosmos DB", "note", "not configured", str(error))
    except MissingContainerError as error:
        advice = "the first export makes them" if account.is_local else str(error)
        return Finding("Cosmos DB", "note", "answers, containers not made yet", advice)
    except ExportError as error:
        return Finding("Cosmos DB", "missing", "not usable", str(error))
    found = f"active version {active.version}" if active else "answers, nothing published yet"
    return Finding("Cosmos DB", "ok", found)


def _blobs() -> Finding:
    from pipelines.settings import blob_account  # noqa: PLC0415
    from pipelines.storage import open_storage  # noqa: PLC0415

    try:
        account = blob_account()
        os.environ.setdefault("HYPERREC_PATIENCE_SECONDS", "3")
        count = sum(1 for _ in open_storage("az://runs", account=account).list())
    except PipelineError as error:
        state: State = "note" if error.exit_code == 2 else "missing"
        return Finding("Blob storage", state, "not usable", str(error))
    return Finding("Blob storage", "ok", f"{account.url} answers, {count:,} blobs in az://runs")


def _output(command: list[str]) -> str | None:
    """What a program prints, or None when there is no such program."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout + done.stderr
