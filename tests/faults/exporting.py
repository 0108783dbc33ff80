"""Publishes in processes of their own, quickly: a process with everything imported that forks.

`python -m tests.faults.exporting ENDPOINT DATABASE` reads lines "VERSION SEED COUNT PROCESSES" and
answers each with the process id of the publish, and with its exit code when it has ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.local.published_keys import COSMOS_KEY
from serving_export import load
from serving_export.errors import ExportError
from serving_export.pacing import Pace
from tests.serving_export.publishing_support import Account, make_items

# So that a small version is shared among processes, too.
SHARE = 50


@dataclass
class Publisher:
    """The forking process, from the outside."""

    process: subprocess.Popen[str]

    def start(self, version: str, seed: int, count: int, processes: int) -> int:
        """Begin to publish; returns the process id."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{version} {seed} {count} {processes}\n")
        self.process.stdin.flush()
        return self._number()

    def ended(self) -> int:
        """Wait for the publish; its exit code, negative for a signal."""
        return self._number()

    def timed(self, version: str, seed: int, count: int, processes: int) -> float:
        """Publish undisturbed; returns the seconds it took."""
        began = time.monotonic()
        self.start(version, seed, count, processes)
        assert self.ended() == 0, "an undisturbed publish failed"
        return time.monotonic() - began

    def _number(self) -> int:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the publishing process has ended"
        return int(line)


@contextmanager
def publisher(endpoint: str, database: str, mark: str) -> Iterator[Publisher]:
    """A publisher for an account; its processes carry a mark in their environment."""
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.exporting", endpoint, database],
        env=os.environ | {"PYTHONPATH": root, "HYPERREC_TEST_MARK": mark},
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Publisher(process)
    finally:
        process.kill()
        process.wait()


def writing_processes(mark: str) -> list[int]:
    """Process ids of the writing processes that carry a mark and still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"HYPERREC_TEST_MARK={mark}".encode() in (folder / "environ").read_bytes()
            if ours and b"serving_export.child" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue  # another's, or ended meanwhile
    return found


def main() -> None:
    """Fork and publish, line by line."""
    account = Account(sys.argv[1], COSMOS_KEY, sys.argv[2])
    load.SMALLEST_SHARE = SHARE
    for line in sys.stdin:
        version, seed, count, processes = line.split()
        child = os.fork()
        if child == 0:
            try:
                account.publish(
                    version,
                    make_items(int(count), seed=int(seed)),
                    pace=Pace(processes=int(processes)),
                )
            except ExportError as error:
                print(f"{version}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            except BaseException as error:
                print(f"{version}: unexpected {error!r}", file=sys.stderr, flush=True)
                os._exit(2)
            os._exit(0)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
