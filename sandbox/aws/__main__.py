"""`python -m sandbox.aws`: the simulated AWS in the foreground, until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys

from sandbox.aws import server


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.aws", description=__doc__)
    parser.add_argument("--port", type=int, default=8082)
    parser.add_argument(
        "--github-url",
        default="http://127.0.0.1:8081",
        help="address of GitHub, from which source actions clone",
    )
    parser.add_argument(
        "--events-url", default="", help="URL that receives the events; default: none is sent"
    )
    key = os.environ.get("DEPLOYER_AWS_EVENT_KEY") or "sandbox"
    parser.add_argument(
        "--event-key",
        default=key,
        help="header X-Deployer-Event-Key of the events",
    )
    parser.add_argument(
        "--speed", type=float, default=server.default_speed(), help="factor by which every wait is shortened"
    )
    given = parser.parse_args()
    if given.speed <= 0:
        parser.error("--speed must be greater than 0")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s aws %(levelname)s %(message)s")
    # The signal handler writes to a pipe, because a handler that sets the event for which its own thread waits can
    # deadlock.
    read_end, write_end = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(write_end, b"."))
    try:
        running = server.create(
            port=given.port,
            github_url=given.github_url,
            events_url=given.events_url,
            event_key=given.event_key,
            speed=given.speed,
        )
    except OSError as error:
        parser.exit(
            1, f"the simulated AWS cannot listen on port {given.port}: {os.strerror(error.errno or 0)}\n"
        )
    running.start()
    logging.getLogger("sandbox.aws").info("the simulated AWS listens at %s", running.url)
    os.read(read_end, 1)
    running.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
