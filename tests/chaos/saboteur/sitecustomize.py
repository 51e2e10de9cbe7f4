"""Breakages of the processes under test, which the checker must detect, or a task that kills its worker.

The directory is on PYTHONPATH, so Python imports this module at every start. It is no part of the product.
"""

import os
import signal
import sys
from pathlib import Path

_COMMAND = " ".join(sys.orig_argv)
_BROKEN_PROCESSES = ("--app=workers worker", "workers.scheduler", "gunicorn")
_LUA = {
    # The script does not check the token, so a worker that has lost its lease continues.
    "fencing": [
        ("state_field('token') ~= token or queue_status() ~= 'running'", "queue_status() ~= 'running'")
    ],
    # A lease never expires, so no other worker gets the item of a lost worker.
    "early-ack": [
        ("'current', text, 'until', now + lease", "'current', text, 'until', now + 1e12"),
        ("call('HSET', state, 'until', now + lease)", "call('HSET', state, 'until', now + 1e12)"),
    ],
    # Of two pushes delivered out of order, the one delivered last counts as the newer one.
    "no-supersede": [
        ("newer.pushed_at < (older.pushed_at or 0)", "false"),
        ("decision_time(work) > decision_time(there)", "true"),
    ],
}


def _poison() -> None:
    from deployer.github.host import GitHubHost

    marker, head = os.environ["CHAOS_POISON"], GitHubHost.head

    def deadly(self, repository, ref):  # type: ignore[no-untyped-def]
        if "poison" in ref.name and Path(marker).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return head(self, repository, ref)

    GitHubHost.head = deadly  # type: ignore[method-assign]


def _break(what: str) -> None:
    from deployer.deployment.desired_state import Deploy
    from deployer.deployment.production.candidates import CandidateJudge
    from deployer.deployment.ref_tracking import RefTracker
    from deployer.redis_store.queue import RedisQueueStore
    from deployer.redis_store.records.deliveries import DELIVERY_POINTER
    from deployer.redis_store.records.repository_index import repository_prefix

    lanes = RedisQueueStore
    if what in _LUA:
        made = lanes.__init__

        def changed(self, client, **options):  # type: ignore[no-untyped-def]
            made(self, client, **options)
            source = (
                self._script.script if isinstance(self._script.script, str) else self._script.script.decode()
            )
            for old, new in _LUA[what]:
                assert old in source, old
                source = source.replace(old, new)
            self._script = client.register_script(source)

        lanes.__init__ = changed  # type: ignore[method-assign]
        if (
            what == "fencing"
        ):  # the kernel timer must not end a worker that was stopped for longer than its lease either
            from deployer.queue.lease import KernelTimer

            KernelTimer.start = lambda *_: None  # type: ignore[method-assign]
        if what == "no-supersede":
            CandidateJudge._reject_older_tag = lambda *_: None  # type: ignore[method-assign]
    elif what == "never-renewed":
        lanes.extend = lambda *_: True  # type: ignore[method-assign]
    elif what == "unwarned":
        from deployer.model import expiry as age

        age._was_warned = lambda _: True  # type: ignore[assignment]
    elif what == "seen-first":
        accept = lanes.accept

        def seen_first(self, repository, work, delivery="", event=""):  # type: ignore[no-untyped-def]
            if delivery and not delivery.startswith("again") and hash(delivery) % 5 == 0:
                key = f"{repository_prefix(repository.full_name)}:delivery:{delivery}"
                if not self._redis.exists(key):
                    self._redis.hset(key, mapping={"delivery": delivery, "outcome": "queued"})
                    self._redis.set(DELIVERY_POINTER + delivery, repository.full_name)
                    from deployer.model.errors import UnavailableError

                    raise UnavailableError("the process died between writing the marker and the queue")
            return accept(self, repository, work, delivery, event)

        lanes.accept = seen_first  # type: ignore[method-assign]
    elif what == "payload-is-truth":
        choose = RefTracker.choose_commit

        def believed(self, context, ref, head, *admit):  # type: ignore[no-untyped-def]
            chosen, pushed = choose(self, context, ref, head, *admit), context.work.push.after
            if not isinstance(chosen, Deploy) or not pushed or context.work.cause != "push" or ref.is_tag:
                return chosen
            return Deploy(chosen.context.with_work(sha=pushed).with_record(commit=pushed))

        RefTracker.choose_commit = believed  # type: ignore[method-assign]
    else:
        raise SystemExit(f"no breakage {what!r}")


if any(words in _COMMAND for words in _BROKEN_PROCESSES):
    if os.environ.get("CHAOS_POISON"):
        _poison()
    if os.environ.get("CHAOS_BREAK"):
        _break(os.environ["CHAOS_BREAK"])
