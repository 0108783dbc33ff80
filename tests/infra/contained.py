"""A command run as its image would run it, without a container engine.

In a mount namespace of its own: the project read-only, the environment at /opt/venv, an empty
/tmp, a state folder, a read-only root file system, the image's user without any capability, and the
image's variables and no others.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.infra.dockerfile import ROOT, Stage

_SCRIPT = r"""
set -eu
mount -t tmpfs -o mode=0755 tmpfs /mnt
mkdir /mnt/venv /mnt/python /mnt/project /mnt/state
mount --bind "$VENV" /mnt/venv
mount --bind "$PYTHON" /mnt/python
mount --bind "$PROJECT" /mnt/project
mount --bind "$STATE" /mnt/state
mount --bind "$PASSWD" /etc/passwd
# The interpreter may lie in a home that the image's user may not enter.
case "$PYTHON:$VENV" in */root/*) mount -t tmpfs -o mode=0755 tmpfs /root ;; esac
mount -t tmpfs -o mode=0755 tmpfs /opt
mkdir /opt/venv /opt/project
mount --bind /mnt/venv /opt/venv
mount --bind /mnt/project /opt/project
mount -o remount,bind,ro /opt/venv
mount -o remount,bind,ro /opt/project
mount -t tmpfs -o mode=0755 tmpfs /var/lib
mkdir /var/lib/hyperrec
mount --bind /mnt/state /var/lib/hyperrec
mount -t tmpfs -o mode=1777 tmpfs /tmp
# Scripts of the environment name its interpreter by where it was made.
for place in python "$PYTHON" venv "$VENV"; do
    case "$place" in
        /*) [ -e "$place" ] || { mkdir -p "$place"; mount --rbind "/mnt/$from" "$place"; } ;;
        *) from=$place ;;
    esac
done
mount -o remount,bind,ro /opt
mount -o remount,bind,ro /var/lib
mount -o remount,bind,ro /
cd "$WORKDIR"
exec setpriv --reuid "${OWNER%:*}" --regid "${OWNER#*:}" --clear-groups --no-new-privs \
    --inh-caps=-all --bounding-set=-all "$@"
"""


@dataclass(frozen=True)
class Contained:
    """An image's target, and the folder that stands for its volume."""

    stage: Stage
    state: Path

    def start(
        self, words: Sequence[str], more: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """The target's entry point with these words, or with none its own command."""
        variables = self.stage.env | {"PYTHONPATH": "/opt/project"} | dict(more or {})
        entry = [
            # tini passes signals on, which a test does itself where there is none.
            *(("tini", "--") if shutil.which("tini") else ()),
            "/opt/project/docker/entrypoint.sh",
        ]
        assert self.stage.entrypoint == ("tini", "--", "hyperrec-entrypoint")
        command = [
            *("unshare", "--mount", "--propagation", "private", "sh", "-c", _SCRIPT, "sh"),
            *("env", "-i", *(f"{name}={value}" for name, value in variables.items())),
            *entry,
            *words,
        ]
        return subprocess.Popen(
            command,
            env=os.environ | self._places(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, *words: str, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The same, to its end."""
        process = self.start(words, more)
        out, err = process.communicate(timeout=240)
        return subprocess.CompletedProcess(list(words), process.returncode, out, err)

    def _places(self) -> dict[str, str]:
        owner = self.stage.user
        passwd = self.state.with_name(f"{self.state.name}.passwd")
        user, group = owner.split(":")
        # As useradd writes it; Java asks for the name of whoever runs it.
        line = f"hyperrec:x:{user}:{group}::/var/lib/hyperrec:/usr/sbin/nologin\n"
        passwd.write_text(Path("/etc/passwd").read_text() + line)
        self.state.mkdir(mode=0o700, exist_ok=True)
        os.chown(self.state, int(user), int(group))
        return {
            "VENV": sys.prefix,
            "PYTHON": sys.base_prefix,
            "PROJECT": str(ROOT),
            "STATE": str(self.state),
            "PASSWD": str(passwd),
            "WORKDIR": self.stage.workdir,
            "OWNER": owner,
        }


def why_not() -> str | None:
    """Why commands cannot be contained here; None where they can."""
    if os.geteuid() != 0:
        return "needs root, to change into the image's user and mount a read-only root file system"
    probe = ["unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "t", "/mnt"]
    try:
        subprocess.run(probe, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"needs mount namespaces, which are refused here: {error}"
    return None
