"""The guided tour: `make demo`. It starts everything, does what a team does in a day, and checks each result.

It ends 0 only if every result was right.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sandbox.http_calls import call
from sandbox.installation import Installation
from sandbox.waiting import NeverHappenedError, wait_for
from sandbox.working_copy import WorkingCopy

HELLO, BONJOUR, WEDGED = "feature/hello", "feature/bonjour", "feature/wedged"
FAILING_TEST = """\
import unittest


class Demo(unittest.TestCase):
    def test_it(self):
        self.fail("on purpose")
"""
STAGES = ("Source", "Build", "Test", "Deploy")


class WrongResultError(AssertionError):
    """A result of the tour was not what was promised."""


class Tour:
    """The steps, in order; each tells what it did and fails if a promise was broken."""

    def __init__(self, installation: Installation, directory: Path) -> None:
        self._here = installation
        self._copy: WorkingCopy = installation.clone(directory / "hello")
        self._hello_first = self._hello_bad = self._released = ""

    def steps(self) -> list[tuple[str, Callable[[], None]]]:
        """Every step with its title."""
        return [
            (f"push a new branch, {HELLO}", self.push_a_branch),
            (
                "push to it again, and a second branch with its own configuration at the same time",
                self.push_two,
            ),
            ("push a commit whose tests fail", self.push_failing_tests),
            (f"merge {BONJOUR} to the default branch", self.merge),
            ("tag that commit, though the default branch has moved on", self.tag),
            ("tag a commit that was never merged; then let an operator approve it", self.refuse_a_tag),
            (f"push {WEDGED}, whose stack AWS cannot make; then once more", self.heal_a_wedge),
            (f"delete the branch {HELLO}", self.delete),
            ("look whether anything was forgotten: deployer resync", self.resync),
        ]

    def push_a_branch(self) -> None:
        """A new branch gets a stack, a pipeline, statuses and a page of its own."""
        self._copy.branch(HELLO)
        page = self._copy.read("site/index.html")
        self._hello_first = self._copy.write(
            "Say hello", {"site/index.html": page.replace("</main>", "<p>One</p></main>")}
        )
        self._copy.push()
        name = self._deployed(f"refs/heads/{HELLO}", self._hello_first)
        self._stage_statuses(self._hello_first)
        self._page_shows(name, "Hello from a branch", "development", self._hello_first[:12], "<p>One</p>")

    def push_two(self) -> None:
        """The first branch keeps its stack and runs anew; the second has a pipeline and configuration of its own."""
        before = self._here.environment(f"refs/heads/{HELLO}") or {}
        stack_before = self._here.stacks()[before["id"]]["id"]
        page = self._copy.read("site/index.html")
        second = self._copy.write("Say it twice", {"site/index.html": page.replace("One", "Two")})
        self._copy.push()
        self._copy.branch(BONJOUR)
        parameters = self._copy.read("deploy/pipeline.parameters.json")
        other = self._copy.write(
            "Greet in French",
            {
                "deploy/pipeline.parameters.json": parameters.replace(
                    "Hello from a branch", "Bonjour de la branche"
                )
            },
        )
        self._copy.push()
        name = self._deployed(f"refs/heads/{HELLO}", second)
        other_name = self._deployed(f"refs/heads/{BONJOUR}", other)
        check("the stack is the same one", self._here.stacks()[name]["id"] == stack_before)
        shas = [each["sha"] for each in self._here.executions(name)]
        check(f"one execution for each commit ({len(shas)})", shas == [self._hello_first, second])
        check("the second branch has a pipeline of its own", other_name != name)
        self._page_shows(name, "Hello from a branch", second[:12], "<p>Two</p>")
        self._page_shows(other_name, "Bonjour de la branche", other[:12])

    def push_failing_tests(self) -> None:
        """A failing stage stops those after it, and the commit says why."""
        self._copy.git("checkout", "-q", HELLO)
        good = self._copy.head
        bad = self._hello_bad = self._copy.write("Break the tests", {"tests/test_demo.py": FAILING_TEST})
        self._copy.push()
        found = self._here.settled(f"refs/heads/{HELLO}", bad)
        statuses = self._here.statuses(bad)
        check("its outcome is: failed", found["outcome"] == "failed")
        check("Deploy did not run", "deployer/Deploy" not in statuses)
        check("deployer/Test is a failure", statuses["deployer/Test"]["state"] == "failure")
        say(f"    the status says: {statuses['deployer/Test']['description']}")
        check(
            "the status names the command that failed", "unittest" in statuses["deployer/Test"]["description"]
        )
        self._page_shows(found["id"], good[:12])
        told = self._here.cli("why", "acme/hello", HELLO)
        check(
            "`deployer why acme/hello feature/hello` tells it too",
            told.returncode == 0 and "Test" in told.stdout,
        )
        say(_indented(told.stdout))

    def merge(self) -> None:
        """The default branch drives staging."""
        self._copy.git("fetch", "-q", "origin")
        self._copy.git("checkout", "-q", "-B", "main", "origin/main")
        self._copy.git("merge", "-q", "--no-ff", "-m", f"Merge {BONJOUR}", f"origin/{BONJOUR}")
        self._released = self._copy.head
        self._copy.push("main")
        name = self._deployed("staging", self._released)
        self._page_shows(name, "Hello from staging", "staging", self._released[:12])

    def tag(self) -> None:
        """A tag drives production, at its own commit."""
        page = self._copy.read("site/index.html")
        later = self._copy.write("Go on", {"site/index.html": page.replace("</main>", "<p>Later</p></main>")})
        self._copy.push("main")
        self._copy.git("tag", "-a", "v1.0.0", "-m", "The first release", self._released)
        self._copy.push("v1.0.0")
        name = self._deployed("production", self._released)
        self._page_shows(name, "Hello, world", "production", self._released[:12])
        staging = self._deployed("staging", later)
        self._page_shows(staging, later[:12], "<p>Later</p>")
        finished = [each["sha"] for each in self._here.executions(name) if each["status"] == "Succeeded"]
        check("production never built another commit to its end", finished == [self._released])

    def refuse_a_tag(self) -> None:
        """Who can push a tag does not choose what production runs: its commit must be on the default branch."""
        self._copy.git("checkout", "-q", "--detach", "origin/main")
        page = self._copy.read("site/index.html")
        stray = self._copy.write(
            "Hurry past the review",
            {
                "site/index.html": page.replace("</main>", "<p>Hotfix</p></main>"),
                "deploy/deployer.yml": 'tags: ["*"]\n',  # rules of its own, which do not count
            },
        )
        self._copy.git("tag", "v1.0.1")
        self._copy.push("refs/tags/v1.0.1")
        told = wait_for(
            "the tag is refused",
            lambda: self._here.statuses(stray).get("deployer/production", {}),
            seconds=60,
        )
        say(f"    the status says: {told['description']}")
        check("deployer/production is a failure", told["state"] == "failure")
        check(
            "it names the commit, the branch and what to do",
            all(words in told["description"] for words in (stray[:12], "main", "deployer approve")),
        )
        found = self._here.environment("production") or {}
        check(
            f"production stays at {self._released[:12]}",
            (found["commit"], found["outcome"]) == (self._released, "deployed"),
        )
        self._page_shows(found["id"], "Hello, world", self._released[:12])
        check(
            "no execution built it", stray not in [each["sha"] for each in self._here.executions(found["id"])]
        )
        approved = self._here.cli("approve", "acme/hello", "v1.0.1")
        say(_indented(approved.stdout))
        name = self._deployed("production", stray)
        self._page_shows(name, "Hello, world", stray[:12], "<p>Hotfix</p>")
        by = (self._here.environment("production") or {})["admitted"]["by"]
        check(f"it is on record: {by}", by.startswith("approved by "))

    def heal_a_wedge(self) -> None:
        """A stack that could not be made can only be deleted: the next push does that, and makes it anew."""
        self._copy.branch(WEDGED)
        reason = "The service is out of capacity in this zone"
        self._here.fault("aws", {"fail_resources": {"resource": "Test", "on": "create", "reason": reason}})
        first = self._copy.write("Meet bad luck", {})
        self._copy.push()
        found = self._here.settled(f"refs/heads/{WEDGED}", first)
        self._here.heal()
        stack = self._here.stacks()[found["id"]]
        check("its outcome is: failed", found["outcome"] == "failed")
        check(f"its stack is {stack['status']}, kept to be looked at", stack["status"] == "ROLLBACK_COMPLETE")
        told = self._here.statuses(first)["deployer/prepare"]["description"]
        say(f"    the status says: {told}")
        line = 1 + self._copy.read("deploy/pipeline.yml").splitlines().index("  Test:")
        check(
            f"it names the resource, its line in the template ({line}) and AWS's reason",
            all(words in told for words in (f"Test at deploy/pipeline.yml:{line}", reason)),
        )
        say(_indented(self._here.cli("why", "acme/hello", WEDGED).stdout))
        second = self._copy.write("Try again", {})
        self._copy.push()
        name = self._deployed(f"refs/heads/{WEDGED}", second)
        check("it is another stack", self._here.stacks()[name]["id"] != stack["id"])
        self._page_shows(name, "development", second[:12])

    def delete(self) -> None:
        """A deleted branch takes its stack and all that it deployed along, and nothing else; a receipt says so."""
        kept = {name for name in self._here.stacks() if "feature-hello" not in name}
        before = self._resources()
        self._copy.push("--delete", HELLO)
        self._here.deleted(f"refs/heads/{HELLO}")
        check("its stacks are gone, all others are there", set(self._here.stacks()) == kept)
        gone = before - self._resources()
        check(
            f"{len(gone)} buckets, roles, build projects and pipelines are gone, each of them its own",
            bool(gone) and all("feature-hello" in name for _, name in gone),
        )
        left = [name for _, name in self._resources() if "feature-hello" in name]
        check(
            "nothing of it is left in the account", left == [] and self._here.aws_state()["leftovers"] == []
        )
        receipt = (self._here.environment(f"refs/heads/{HELLO}") or {})["receipt"]
        check(
            "the receipt names both stacks and the bucket, nothing was retained",
            len(receipt["removed"]) == 3 and receipt["retained"] == [],
        )
        told = self._here.statuses(self._hello_bad)["deployer/teardown"]
        check(f"the last commit says: {told['description']}", told["state"] == "success")
        say(_indented(self._here.cli("why", "acme/hello", HELLO).stdout))
        for environment in ("staging", "production"):
            found = self._here.environment(environment) or {}
            check(f"{environment} still answers", call("GET", self._here.site(found["id"])).status == 200)

    def _resources(self) -> set[tuple[str, str]]:
        """Whatever stacks have made in the account."""
        state = self._here.aws_state()
        found = {("bucket", name) for name in state["buckets"]}
        for kind in ("roles", "projects", "pipelines"):
            found |= {(kind, each["name"]) for each in state[kind]}
        return found

    def resync(self) -> None:
        """Everything is as it should be."""
        plan = self._here.cli("resync", "acme/hello", "--dry-run")
        check("the plan is empty", plan.returncode == 0 and "nothing to do" in plan.stdout)
        stacks = self._here.stacks()
        before = {name: len(self._here.executions(name)) for name in stacks}
        done = self._here.cli("resync", "acme/hello", "--wait")
        check("the resync found nothing to do", done.returncode == 0 and "nothing to do" in done.stdout)
        check(
            "and started nothing",
            before == {name: len(self._here.executions(name)) for name in self._here.stacks()},
        )
        say(_indented(self._here.cli("status", "acme/hello").stdout))

    # --- what every step looks at ---

    def _deployed(self, environment: str, commit: str) -> str:
        found = self._here.settled(environment, commit)
        check(
            f"{environment.removeprefix('refs/heads/')} is deployed at {commit[:12]}",
            found["outcome"] == "deployed",
        )
        status = self._here.stacks()[found["id"]]["status"]
        check(f"stack {found['id']} is {status}", status in {"CREATE_COMPLETE", "UPDATE_COMPLETE"})
        return str(found["id"])

    def _stage_statuses(self, commit: str) -> None:
        wanted = {f"deployer/{name}": "success" for name in ("prepare", *STAGES)}
        wait_for(
            "the statuses of every stage",
            lambda: {name: each["state"] for name, each in self._here.statuses(commit).items()} == wanted,
            10,
        )
        check(f"green on the commit: {', '.join(wanted)}", correct=True)

    def _page_shows(self, stack: str, *words: str) -> None:
        url = self._here.site(stack)
        page = call("GET", url)
        check(f"its page is served: {url}", page.status == 200)
        for word in words:
            check(f"the page shows {word!r}", word in page.text)


def say(text: str) -> None:
    """Print at once, so that a pipe shows progress as well."""
    print(text, flush=True)


def check(what: str, correct: bool) -> None:
    """Tell a result.

    Raises:
        WrongResultError: it is not right.
    """
    if not correct:
        raise WrongResultError(what)
    say(f"  ✓ {what}")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.rstrip().splitlines())


def main() -> int:
    """Run the tour; returns the exit status."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="deployer-demo-") as name:
        directory = Path(name)
        # a tag waits a minute for its commit to arrive on the default branch; nobody wants to watch that
        installation = Installation(directory, {"DEPLOYER_TAG_WAIT_SECONDS": "3"})
        say("Starting deployer with a simulated GitHub and AWS of its own ...")
        try:
            with installation.running():
                say(f"  dashboard {installation.web}   GitHub {installation.github}   AWS {installation.aws}")
                tour = Tour(installation, directory)
                for number, (title, step) in enumerate(tour.steps(), start=1):
                    say(f"\n{number}. {title[0].upper()}{title[1:]}")
                    begun = time.monotonic()
                    step()
                    say(f"    ({time.monotonic() - begun:.1f} s)")
            say("\nStopped; no process was left behind.")
        except (WrongResultError, NeverHappenedError, RuntimeError) as error:
            say(f"  ✗ {error}\n\nThe end of the log:\n{installation.output()[-6000:]}")
            say("\nThe demonstration FAILED.")
            return 1
    say(f"The demonstration went through in {time.monotonic() - started:.0f} s: every result was right.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
