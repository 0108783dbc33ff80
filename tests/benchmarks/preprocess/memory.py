"""The memory of a process and all its descendants, sampled while they run."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

_SECONDS = 2.0


class Watch:
    """Samples the proportional memory of a process's tree until it ends."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Begin."""
        self._process = process
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.peak_bytes = 0
        self._thread.start()

    def _run(self) -> None:
        while self._process.poll() is None:
            self.peak_bytes = max(self.peak_bytes, sum(map(_bytes, tree(self._process.pid))))
            threading.Event().wait(_SECONDS)


def tree(root: int) -> list[int]:
    """Ids of a process and of all processes that come from it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(folder.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def _bytes(pid: int) -> int:
    """Memory of a process, of what it shares with others its share alone (PSS)."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
