"""The processes of a long computation end with the one that started them."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.support import wait_until

_PARENT = """
import os, time
from pathlib import Path
from hyperrec_core.analysis.workers import pool

def work(folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(60)

if __name__ == "__main__":
    with pool(2) as workers:
        list(workers.map(work, ["{folder}"] * 2))
"""


def alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def test_workers_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.mkdir()
    script = tmp_path / "parent.py"
    script.write_text(_PARENT.format(folder=told))
    parent = subprocess.Popen([sys.executable, script])
    try:
        wait_until(lambda: len(list(told.iterdir())) == 2, "the workers do not begin")
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    workers = [int(path.name) for path in told.iterdir()]
    wait_until(lambda: not any(map(alive, workers)), "the workers go on", seconds=20)
