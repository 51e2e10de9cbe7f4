"""`python -m sandbox.aws`: the simulated AWS in the foreground, until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys

from sandbox.aws import server


def main() -> int:
    """Run until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.aws", description=__doc__)
    parser.add_argument("--port", type=int, default=8082)
    parser.add_argument("--github-url", default="http://127.0.0.1:8081", help="what git clones from")
    parser.add_argument("--events-url", default="", help="where events are posted; empty: nowhere")
    key = os.environ.get("DEPLOYER_AWS_EVENT_KEY") or "sandbox"
    parser.add_argument(
        "--event-key", default=key, help="the key that the events bear; by default deployer's own"
    )
    parser.add_argument("--speed", type=float, default=server.default_speed(), help="divides every wait")
    given = parser.parse_args()
    if given.speed <= 0:
        parser.error("--speed must be more than 0")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s aws %(levelname)s %(message)s")
    # A pipe, since a handler that sets an event which its own thread waits for can lock both for ever.
    heard, told = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(told, b"."))
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
    logging.getLogger("sandbox.aws").info("the simulated AWS answers at %s", running.url)
    os.read(heard, 1)
    running.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
