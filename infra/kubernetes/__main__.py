"""`python -m infra.kubernetes --from outputs.json --to FOLDER`: fill the templates.

`outputs.json` is what `terraform output -json` says. The folder gets `cluster.yaml`, for
`kubectl apply`; `preprocess.yaml`, a job for `kubectl create`; and `pool-cpu.json` and
`pool-gpu.json`, the base job templates of the two work pools.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

HERE = Path(__file__).resolve().parent

# In the order in which a cluster must meet them.
CLUSTER = (
    "namespace.yaml",
    "gpu.yaml",
    "accounts.yaml",
    "spark.yaml",
    "server.yaml",
    "workers.yaml",
)
ALONE = ("preprocess.yaml",)
# What sets each apart from pool.json, in which the jobs of all pools are the same.
POOLS = ("pool-cpu.json", "pool-gpu.json")


class OutputsError(Exception):
    """Terraform's outputs do not fill a template; one sentence says what is missing."""


def values(outputs: Mapping[str, Any]) -> dict[str, str]:
    """What the templates may name, of the outputs as `terraform output -json` writes them.

    Maps become one name a key: `image_train` of `images`, `client_id_export` of `identities`.

    Raises:
        OutputsError: this is no such file.
    """
    try:
        plain = {name: output["value"] for name, output in outputs.items()}
    except (TypeError, KeyError, AttributeError) as error:
        raise OutputsError(
            "These are not Terraform's outputs: write them with `terraform output -json`."
        ) from error
    found = {name: value for name, value in plain.items() if isinstance(value, str)}
    found |= {f"image_{target}": image for target, image in plain.get("images", {}).items()}
    found |= {f"client_id_{name}": value for name, value in plain.get("identities", {}).items()}
    return found


def fill(name: str, known: Mapping[str, str]) -> str:
    """A template with its names replaced; what Spark and Kubernetes fill themselves stays.

    Raises:
        OutputsError: the outputs lack a name.
    """
    text = Template((HERE / name).read_text()).safe_substitute(known)
    if (left := re.search(r"\$\{(\w+)\}", text)) is not None:
        raise OutputsError(
            f"Terraform's outputs have no {left[1]}, which {name} needs: apply this version's "
            "infra/azure first."
        )
    return text


def render(outputs: Mapping[str, Any]) -> dict[str, str]:
    """All files, by name."""
    known = values(outputs)
    cluster = "---\n".join(fill(name, known) for name in CLUSTER)
    shared = json.loads(fill("pool.json", known))
    pools = {name: merged(shared, json.loads(fill(name, known))) for name in POOLS}
    return (
        {"cluster.yaml": cluster}
        | {name: fill(name, known) for name in ALONE}
        | {name: json.dumps(template, indent=2) + "\n" for name, template in pools.items()}
    )


def merged(base: Any, own: Any) -> Any:
    """A template with more said: objects by key, those of lists by `name`, and others behind."""
    if isinstance(base, dict) and isinstance(own, dict):
        return base | {k: merged(base[k], v) if k in base else v for k, v in own.items()}
    if isinstance(base, list) and isinstance(own, list):
        named = {part.get("name") for part in base} - {None}
        more = {part["name"]: part for part in own if part.get("name") in named}
        added = [part for part in own if part.get("name") not in named]
        return [merged(part, more.get(part.get("name"), {})) for part in base] + added
    return own


def main() -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.kubernetes", description=__doc__)
    parser.add_argument("--from", dest="source", type=Path, required=True, metavar="OUTPUTS")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER")
    arguments = parser.parse_args()
    try:
        files = render(json.loads(arguments.source.read_text()))
    except (OSError, ValueError, OutputsError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    arguments.to.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (arguments.to / name).write_text(text)
        sys.stdout.write(f"{arguments.to / name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
