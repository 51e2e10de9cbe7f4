"""`make chaos`: one fault-injection run with `--seconds` of faults, repeatable by `--seed`."""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.run import Chaos, Plan, Report


def main() -> int:
    """Run and print the report; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long faults are injected (60)")
    parser.add_argument("--seed", type=int, help="seed of all random choices; random by default")
    parser.add_argument("--repositories", type=int, default=20, help="number of repositories (20)")
    parser.add_argument(
        "--breakage", default="", help="break the product on purpose, to test that the checker notices"
    )
    parser.add_argument("--wipe", action="store_true", help="wipe Redis halfway")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if given.seed is None else given.seed
    plan = Plan(
        given.seconds, seed, repositories=given.repositories, breakage=given.breakage, wipe=given.wipe
    )
    if not given.json:
        print(
            f"{plan.repositories} repositories, {plan.seconds:g} s of pushes and faults, seed {seed}",
            flush=True,
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no process is left running
    directory = Path(tempfile.mkdtemp(prefix="deployer-chaos-"))
    started = time.monotonic()
    report = Chaos(plan, directory).run()
    if given.json:
        print(json.dumps(as_json(report), indent=2))
    else:
        print(as_text(report))
        print(f"{time.monotonic() - started:.0f} s in total; the logs are in {directory}")
    return 1 if report.violations else 0


def as_json(report: Report) -> dict[str, object]:
    """The report as JSON."""
    return {
        "seed": report.plan.seed,
        "seconds": report.plan.seconds,
        "repositories": report.plan.repositories,
        **{name: dict(sorted(getattr(report, name).items())) for name in _COUNTS},
        "dead_letters": report.dead_letters,
        "quiet_seconds": round(report.quiet_seconds, 1),
        "violations": [
            {"promise": each.promise, "what": each.what, "also": list(each.also)}
            for each in report.violations
        ],
    }


def as_text(report: Report) -> str:
    """The report as text; each violation has the timeline that shows it."""
    lines = []
    for name in _COUNTS:
        counts = getattr(report, name)
        listed = ", ".join(
            f"{count} {what}" for what, count in sorted(counts.items(), key=lambda item: -item[1])
        )
        lines.append(f"{name:<11} {sum(counts.values()):>5}  {listed}")
    lines.append(
        f"dead letters {report.dead_letters}, all replayed; idle {report.quiet_seconds:.1f} s after the last fault"
    )
    for each in report.violations:
        lines += ["", f"BROKEN (seed {report.plan.seed}): {each.promise}", f"  {each.what}"]
        start = min((at for at, _ in each.timeline), default=0)
        lines += [f"  {at - start:8.3f} s  {what}" for at, what in each.timeline]
        lines += [f"  also: {also}" for also in each.also]
    causes = len(report.violations)
    verdict = (
        f"promises broken, {causes} cause{'' if causes == 1 else 's'}"
        if report.violations
        else "every promise held"
    )
    return "\n".join([*lines, "", verdict])


_COUNTS = ("actions", "faults", "deliveries", "outcomes", "steps", "life")


if __name__ == "__main__":
    sys.exit(main())
