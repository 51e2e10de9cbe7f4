"""A repository for the tests of a repository's life, with the actions of its owner, of GitHub and of operators."""

import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox.installation import Installation, WaitTimeoutError, call, wait_for
from tests.chaos.team import TEMPLATE

_NOWHERE = "http://127.0.0.1:9"  # no program listens there
_JSON = {"Content-Type": "application/json"}


class Shop:
    """A repository whose default branch, tag `v1` and branch `dev` are deployed.

    Args:
        here: the installation.
        directory: for its clone.
        name: its full name; it is made.
    """

    def __init__(self, here: Installation, directory: Path, name: str) -> None:
        self.here, self.name = here, name
        here.repository(name, sample=False)
        self.copy = here.clone(directory / name.replace("/", "~"), name)
        self.copy.git("checkout", "-q", "-B", "main")
        self.main = self.dev = self.copy.write(
            "First", {"deploy/pipeline.json": json.dumps(TEMPLATE), **_NOTE}
        )

    def begin(self, *, production: bool = False) -> "Shop":
        """Push everything and wait until it is deployed."""
        self.copy.git("tag", "v1")
        self.copy.push("HEAD:main", *(["v1"] if production else []))
        self.dev = self.push("dev")
        self.deployed(staging=self.main, dev=self.dev, **({"production": self.main} if production else {}))
        return self

    # --- what people do ---

    def push(self, branch: str, files: dict[str, str] | None = None) -> str:
        """Push a new commit to a branch; returns it."""
        sha = self.copy.write(f"On {branch} at {time.time()}", files or {})
        self.copy.push(f"HEAD:refs/heads/{branch}")
        return sha

    def change(self, action: str, to: str = "", name: str = "") -> None:
        """Change the repository itself; `name` is its name afterwards."""
        _post(f"{self.here.github}/_sandbox/repositories/{self.name}", {"action": action, "to": to})
        self.name = name or self.name

    def hook(self, *, active: bool = True, reached: bool = True) -> None:
        """Set the webhook: an inactive one sends nothing; an unreachable one fails."""
        path = f"{self.here.github}/api/v3/repos/{self.name}/hooks"
        (hook,) = call("GET", path).json
        url = f"{self.here.web if reached else _NOWHERE}/webhooks/github"
        body = json.dumps({"active": active, "config": {"url": url}}).encode()
        assert call("PATCH", f"{path}/{hook['id']}", body, _JSON).status == 200

    def redeliver(self, sha: str) -> str:
        """Press GitHub's button for the push of a commit; returns the delivery's id."""
        sent = [
            each
            for each in self.deliveries()
            if (each["event"], each["payload"].get("after")) == ("push", sha)
        ]
        address = f"{self.here.github}/{self.name}/deliveries/{sent[0]['id']}/redeliver"
        assert call("POST", address, b"").status < 400
        return str(sent[0]["guid"])

    # --- what is to be seen ---

    def deliveries(self) -> list[dict[str, Any]]:
        """GitHub's log, oldest first, once nothing is on its way."""

        def log() -> list[dict[str, Any]]:
            path = f"{self.here.github}/_sandbox/deliveries?repository={self.name}"
            found = list(call("GET", path).json)
            return [] if any(each["state"] == "pending" for each in found) else found

        return wait_for(f"{self.name}: every delivery was tried", log)

    def older(self, seconds: float = 120) -> None:
        """Make all previous deliveries of GitHub older."""
        self.deliveries()
        _post(f"{self.here.github}/_sandbox/repositories/{self.name}/deliveries", {"seconds_ago": seconds})

    def environment(self, name: str, of: str = "") -> dict[str, Any]:
        """What the API knows of `staging`, `production` or a branch; empty if nothing."""
        key = name if name in {"staging", "production"} else f"refs/heads/{name}"
        return self.here.environment(key, of or self.name) or {}

    def deployed(self, of: str = "", seconds: float = 90, **commits: str) -> None:
        """Wait until environments are deployed at commits, with a stack and an execution of that commit."""

        def differ() -> dict[str, Any]:
            found = {name: self.environment(name, of) for name in commits}
            return {
                name: {key: each.get(key) for key in ("state", "commit", "reason")}
                for name, each in found.items()
                if (each.get("state"), each.get("commit")) != ("deployed", commits[name])
            }

        until(f"{of or self.name}: {commits} are deployed", differ, seconds)
        stacks = self.here.stacks()
        for name, sha in commits.items():
            identity = self.environment(name, of)["id"]
            assert stacks[identity]["status"].endswith("_COMPLETE")
            assert self.here.executions(identity)[-1]["sha"] == sha

    def gone(self, name: str, of: str = "", seconds: float = 90) -> str:
        """Wait until an environment and its stack are deleted; return the reason."""

        def look() -> dict[str, Any]:
            found = self.environment(name, of)
            return found if found.get("state") in {"deleted", "asleep"} else {}

        found = wait_for(f"{of or self.name} {name} is gone", look, seconds)
        assert found["id"] not in self.here.stacks()
        return str(found["reason"])

    def standing(self, of: str = "") -> dict[str, Any]:
        """The repository's stacks by name, each with all that a deployment would change."""
        return {
            name: (
                each["id"],
                each["status"],
                each["tags"],
                each["parameters"],
                len(self.here.executions(name)),
            )
            for name, each in self.here.stacks().items()
            if each["tags"].get("deployer:repository") == (of or self.name)
        }

    def deletions(self, identity: str) -> list[float]:
        """When the deletion of an environment's pipeline stack was ordered, in epoch seconds, oldest first."""
        return [
            each["time"]
            for each in self.here.aws_calls()
            if each["operation"] == "DeleteStack" and f"/{identity}/" in f"{each['name']}/"
        ]

    def resync(self, of: str = "") -> str:
        """Have it resynced now, and wait for the end; returns what that came to."""
        name = of or self.name
        goal = self.here.api("resync", "POST", {"repository": name})["id"]

        def ended() -> str:
            found = self.here.api(f"activity?repository={name}&goal={goal}")["activity"]
            return str(found[0]["reason"]) if found else ""

        return wait_for(f"{name} is resynced", ended)

    def outcome(self, delivery: str) -> tuple[str, str]:
        """Wait for a delivery's outcome; also the reason."""

        def ended() -> dict[str, Any]:
            found = self.here.api(f"deliveries/{delivery}")
            return dict(found) if found["finished_at"] else {}

        found = wait_for(f"delivery {delivery} has its outcome", ended)
        return found["outcome"], found["reason"]

    def resyncs(self) -> int:
        """Return the number of resyncs that have ended."""
        found = self.here.api(f"activity?repository={self.name}&limit=500")["activity"]
        return sum(each["outcome"] == "resynced" for each in found)

    def was(self, reason: str) -> bool:
        """Whether a resync ended with a reason."""
        found = self.here.api(f"activity?repository={self.name}&limit=500")["activity"]
        return any(each["reason"].startswith(reason) for each in found)

    def known(self) -> dict[str, tuple[str, str]]:
        """State and commit of each of its environments that is not gone."""
        found = self.here.api(f"environments?repository={self.name}")["environments"]
        return {each["environment"]: (each["state"], each["commit"]) for each in found}


_NOTE = {
    "deploy/pipeline.parameters.json": json.dumps(
        {kind: {"Note": "note"} for kind in ("development", "staging", "production")}
    )
}


def until(what: str, differ: Callable[[], Any], seconds: float) -> None:
    """Wait until nothing differs any more; fails with what still does."""
    try:
        wait_for(what, lambda: not differ(), seconds)
    except WaitTimeoutError as error:
        raise WaitTimeoutError(f"{error}: {differ()}") from None


def told(here: Installation, *arguments: str) -> Any:
    """What a command prints as JSON."""
    done = here.cli(*arguments, "--json")
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def said(here: Installation, *arguments: str) -> str:
    """What a command that succeeds prints for people."""
    done = here.cli(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def metric(here: Installation, line: str) -> float:
    """The value of a metric, by its name and labels; 0 if it is not there."""
    for each in call("GET", f"{here.web}/metrics").text.splitlines():
        if each.startswith(f"{line} "):
            return float(each.rpartition(" ")[2])
    return 0


def write_zone(path: Path, begin: int, end: int) -> None:
    """Make a time zone whose clocks show 12:00 at `begin` and jump to 12:01 at `end`: a minute of any length.

    It is a TZif file (RFC 9636), version 1, of one transition.
    """
    before = 43_200 - begin % 86_400
    after = before + 60 - (end - begin)
    header = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 1, 2, 8)
    times = struct.pack(">lb", end, 1) + struct.pack(">lbb", before, 0, 0) + struct.pack(">lbb", after, 0, 4)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + times + b"BEF\0AFT\0")


def _post(address: str, body: dict[str, Any]) -> None:
    answer = call("POST", address, json.dumps(body).encode(), _JSON)
    assert answer.status == 200, answer.text
