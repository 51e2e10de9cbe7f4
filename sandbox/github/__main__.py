"""Runs the simulated GitHub in the foreground: `python -m sandbox.github`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from sandbox.github.hub import BadNameError, check_name
from sandbox.github.seed import SAMPLE_NAME
from sandbox.github.server import PUBLIC, create


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    options = _parse_options()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        if options.sample:
            check_name(options.sample)
        server = create(
            options.port,
            data_dir=options.data_dir,
            webhook_url=options.webhook_url,
            webhook_secret=options.webhook_secret,
        )
    except (OSError, BadNameError) as error:
        sys.stderr.write(f"sandbox.github: {error}\n")
        return 1
    try:
        if options.sample:
            server.ensure_sample(options.sample)
        server.hub.limits.allowed = server.hub.limits.allowed.with_changes({"enforced": True})
        server.hub.sender.hold(options.hold_webhooks)
        server.start()  # started last, so that the sample exists before the first answer
        if options.sample:
            sys.stdout.write(f"git clone {server.url}/{options.sample}.git\n")
        sys.stdout.write(f"Simulated GitHub on {server.url}, webhooks to {options.webhook_url}\n")
        sys.stdout.flush()
        stop.wait()
    finally:
        server.stop()
    return 0


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.github", description="A simulated GitHub.")
    parser.add_argument(
        "--port", type=int, default=8081, help="port on 127.0.0.1 (default 8081; 0: any free port)"
    )
    parser.add_argument(
        "--data-dir", type=Path, default=Path(".sandbox/github"), help="directory of the stored state"
    )
    parser.add_argument("--webhook-url", default="http://127.0.0.1:8080/webhooks/github")
    given = os.environ.get("DEPLOYER_GITHUB_WEBHOOK_SECRET", "").partition(",")[0].strip()
    parser.add_argument("--webhook-secret", default=given or PUBLIC, help="default: deployer's own secret")
    parser.add_argument(
        "--sample", default=SAMPLE_NAME, metavar="OWNER/REPO", help="sample repository to create"
    )
    parser.add_argument(
        "--no-sample", dest="sample", action="store_const", const=None, help="create no sample repository"
    )
    parser.add_argument(
        "--hold-webhooks",
        action="store_true",
        help='send no webhooks until POST /_sandbox/webhooks {"hold": false}',
    )
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
