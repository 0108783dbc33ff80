"""Prefect flows: thin compositions of stages."""

from __future__ import annotations

import os
import time

# A worker starts a flow without our command, which would see to this.
os.environ.setdefault("TZ", "UTC")
time.tzset()
# Threads that spin while they wait cost a busy machine nine tenths of the training speed.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
