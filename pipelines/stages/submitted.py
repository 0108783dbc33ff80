"""What spark-submit runs: the preprocess stage of a run. Arguments: run id, URL of the runs."""

from __future__ import annotations

import sys

from pipelines.preprocess.submit import told
from pipelines.stages.preprocess import run_preprocess
from pipelines.start import open_run

if __name__ == "__main__":
    with told():
        run_preprocess(open_run(*sys.argv[1:]))
