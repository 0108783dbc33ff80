"""What a Dockerfile says of each of its targets, and what .dockerignore lets the builder see."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Stage:
    """A stage with all that it has from those it is made from."""

    base: str
    lines: list[tuple[str, str]] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    copied: list[str] = field(default_factory=list)
    user: str = "root"
    workdir: str = "/"
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    healthcheck: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    installed: str = ""


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction's word and the rest, comments left out and lines put together."""
    plain = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", plain)
    found = (line.partition(" ") for line in joined.splitlines() if line.strip())
    return [(word, rest.strip()) for word, _, rest in found]


def stages(path: Path) -> dict[str, Stage]:
    """The stages of a Dockerfile, by name."""
    found: dict[str, Stage] = {}
    stage: Stage | None = None
    for word, rest in instructions(path.read_text()):
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            above = found.get(base, Stage(base))
            stage = found[name] = Stage(
                base=above.base if base in found else base,
                env=dict(above.env),
                copied=list(above.copied),
                user=above.user,
                workdir=above.workdir,
                entrypoint=above.entrypoint,
                command=above.command,
                healthcheck=above.healthcheck,
                labels=dict(above.labels),
                installed=above.installed,
            )
        elif stage is not None:
            _follow(stage, word, rest)
    return found


def _follow(stage: Stage, word: str, rest: str) -> None:
    stage.lines.append((word, rest))
    if word == "ENV":
        stage.env |= dict(_pair(part) for part in shlex.split(rest))
    elif word == "LABEL":
        stage.labels |= dict(_pair(part) for part in shlex.split(rest))
    elif word == "COPY" and "--from=" not in rest:
        stage.copied += [part for part in rest.split() if not part.startswith("--")][:-1]
    elif word == "USER":
        stage.user = rest
    elif word == "WORKDIR":
        stage.workdir = rest
    elif word == "ENTRYPOINT":
        stage.entrypoint = tuple(json.loads(rest))
    elif word == "CMD":
        stage.command = tuple(json.loads(rest))
    elif word == "HEALTHCHECK":
        stage.healthcheck = tuple(json.loads(rest.partition("CMD ")[2]))
    elif word == "RUN":
        stage.installed += rest


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def in_context(name: str) -> bool:
    """Whether the builder gets to see a path of the repository: the last pattern that fits says."""
    seen = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        again, pattern = pattern.startswith("!"), pattern.removeprefix("!")
        parts = name.split("/")
        paths = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        anywhere = pattern.startswith("**/") and pattern[3:] in parts
        if anywhere or any(fnmatch.fnmatchcase(path, pattern) for path in paths):
            seen = again
    return seen
