"""`python -m infra.local.cosmos --port N --data DIR`: serves one local Cosmos account."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import logging
import sys
from pathlib import Path

from infra.local.cosmos.server import serve


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def main() -> int:
    """Runs the command; returns the exit code (2 for a refused argument, 1 for a failed start)."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.cosmos", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of the account's data")
    arguments = parser.parse_args()
    if not _is_loopback(arguments.host):
        parser.error(
            f"the key of this endpoint is public, so it serves loopback addresses only, not "
            f"{arguments.host}; use 127.0.0.1"
        )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(serve(arguments.host, arguments.port, arguments.data))
    except BlockingIOError:
        logging.getLogger(__name__).error(
            "Another process serves %s; stop it or choose another --data.", arguments.data
        )
        return 1
    except OSError as error:
        logging.getLogger(__name__).error("Cannot serve on port %d: %s.", arguments.port, error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
