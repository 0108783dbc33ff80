"""`python -m infra.local up|down|status`: the local services of a home folder."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from infra.local import services


def main() -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.local", description=__doc__)
    parser.add_argument("command", choices=("up", "down", "status"))
    parser.add_argument("--home", type=Path, default=Path(".hyperrec"), help="default: .hyperrec")
    parser.add_argument("--blob-port", type=int, default=0)
    parser.add_argument("--cosmos-port", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    if arguments.command == "down":
        stopped = services.down(arguments.home)
        sys.stdout.write(f"stopped: {', '.join(stopped) or 'nothing was running'}\n")
        return 0
    try:
        found = (
            services.running(arguments.home)
            if arguments.command == "status"
            else services.up(
                arguments.home,
                blob_port=arguments.blob_port,
                cosmos_port=arguments.cosmos_port,
            )
        )
    except services.LocalServiceError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if found is None:
        sys.stdout.write("not running\n")
        return 1
    sys.stdout.write(f"blob    {found.blob_endpoint or 'none (no Node or Azurite)'}\n")
    sys.stdout.write(f"cosmos  {found.cosmos_endpoint}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
