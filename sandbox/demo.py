"""The guided tour of `make demo`, which checks the result of every step.

The tour starts an installation and does what a team does on an ordinary day. The exit status is 0 only if every result
is correct.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sandbox.http_calls import call
from sandbox.installation import Installation
from sandbox.waiting import WaitTimeoutError, wait_for
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
    """A result of the tour is not the expected one."""


class Tour:
    """The steps of the tour; each prints its results and fails at a wrong one."""

    def __init__(self, installation: Installation, directory: Path) -> None:
        self._here = installation
        self._copy: WorkingCopy = installation.clone(directory / "hello")
        self._hello_first = self._hello_bad = self._released = ""
        self._pull = 0

    def steps(self) -> list[tuple[str, Callable[[], None]]]:
        """The steps in order, each with its title."""
        return [
            (f"push a new branch, {HELLO}", self.push_a_branch),
            (
                "push to it again, and a second branch with its own configuration at the same time",
                self.push_two,
            ),
            (f"open a pull request of {HELLO}", self.open_a_pull_request),
            ("push a commit whose tests fail", self.push_failing_tests),
            (f"merge {BONJOUR} to the default branch", self.merge_a_branch),
            ("tag that commit after the default branch has moved on", self.tag_a_commit),
            ("tag a commit that was never merged; then let an operator approve it", self.reject_a_tag),
            (f"push {WEDGED}, whose stack AWS cannot create; then push again", self.replace_a_failed_stack),
            (f"delete the branch {HELLO}", self.delete_a_branch),
            ("check that nothing was missed: deployer resync", self.resync),
        ]

    def push_a_branch(self) -> None:
        """A new branch gets a stack, a pipeline, commit statuses and a page."""
        self._copy.branch(HELLO)
        page = self._copy.read("site/index.html")
        self._hello_first = self._copy.write(
            "Say hello", {"site/index.html": page.replace("</main>", "<p>One</p></main>")}
        )
        self._copy.push()
        name = self._check_deployed(f"refs/heads/{HELLO}", self._hello_first)
        self._check_stage_statuses(self._hello_first)
        self._check_page(name, "Hello from a branch", "development", self._hello_first[:12], "<p>One</p>")

    def push_two(self) -> None:
        """The first branch runs again in its stack; the second branch has its own pipeline and configuration."""
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
        name = self._check_deployed(f"refs/heads/{HELLO}", second)
        other_name = self._check_deployed(f"refs/heads/{BONJOUR}", other)
        check("the stack is the same one", self._here.stacks()[name]["id"] == stack_before)
        shas = [each["sha"] for each in self._here.executions(name)]
        check(f"one execution for each commit ({len(shas)})", shas == [self._hello_first, second])
        check("the second branch has its own pipeline", other_name != name)
        self._check_page(name, "Hello from a branch", second[:12], "<p>Two</p>")
        self._check_page(other_name, "Bonjour de la branche", other[:12])

    def open_a_pull_request(self) -> None:
        """One comment on a pull request shows the URL of its environment, and is edited with each result."""
        self._pull = self._here.open_pull(HELLO)
        found = self._here.environment(f"refs/heads/{HELLO}") or {}
        url = found["environment_url"]
        text = self._check_comment("has the URL", f"<{url}>", found["commit"], "is deployed")
        say(_indented(text.partition("<details>")[0]))
        check(f"the URL serves the page: {url}", "<p>Two</p>" in call("GET", url).text)
        say(f"    the pull request: {self._here.github}/acme/hello/pull/{self._pull}")

    def push_failing_tests(self) -> None:
        """After a failed stage no later stage runs, and a commit status says why."""
        self._copy.git("checkout", "-q", HELLO)
        good = self._copy.head
        bad = self._hello_bad = self._copy.write("Break the tests", {"tests/test_demo.py": FAILING_TEST})
        self._copy.push()
        found = self._here.settled(f"refs/heads/{HELLO}", bad)
        statuses = self._here.statuses(bad)
        check("the outcome is: failed", found["outcome"] == "failed")
        check("Deploy did not run", "deployer/Deploy" not in statuses)
        check("deployer/Test is a failure", statuses["deployer/Test"]["state"] == "failure")
        say(f"    the status says: {statuses['deployer/Test']['description']}")
        check(
            "the status names the command that failed", "unittest" in statuses["deployer/Test"]["description"]
        )
        self._check_page(found["id"], good[:12])
        self._check_comment("says why", "could not be deployed", "unittest", bad)
        shown = self._here.cli("why", "acme/hello", HELLO)
        check(
            "`deployer why acme/hello feature/hello` names the stage too",
            shown.returncode == 0 and "Test" in shown.stdout,
        )
        say(_indented(shown.stdout))

    def merge_a_branch(self) -> None:
        """A push to the default branch deploys staging."""
        self._copy.git("fetch", "-q", "origin")
        self._copy.git("checkout", "-q", "-B", "main", "origin/main")
        self._copy.git("merge", "-q", "--no-ff", "-m", f"Merge {BONJOUR}", f"origin/{BONJOUR}")
        self._released = self._copy.head
        self._copy.push("main")
        name = self._check_deployed("staging", self._released)
        self._check_page(name, "Hello from staging", "staging", self._released[:12])

    def tag_a_commit(self) -> None:
        """A tag deploys production at the tagged commit."""
        page = self._copy.read("site/index.html")
        later = self._copy.write("Go on", {"site/index.html": page.replace("</main>", "<p>Later</p></main>")})
        self._copy.push("main")
        self._copy.git("tag", "-a", "v1.0.0", "-m", "The first release", self._released)
        self._copy.push("v1.0.0")
        name = self._check_deployed("production", self._released)
        self._check_page(name, "Hello, world", "production", self._released[:12])
        staging = self._check_deployed("staging", later)
        self._check_page(staging, later[:12], "<p>Later</p>")
        every = self._here.executions(name, automatic=True)
        finished = [each["sha"] for each in every if each["status"] == "Succeeded"]
        check("production completed no other commit", finished == [self._released])

    def reject_a_tag(self) -> None:
        """A tag deploys production only if its commit is on the default branch, or after an approval."""
        self._copy.git("checkout", "-q", "--detach", "origin/main")
        page = self._copy.read("site/index.html")
        stray = self._copy.write(
            "Hurry past the review",
            {
                "site/index.html": page.replace("</main>", "<p>Hotfix</p></main>"),
                "deploy/deployer.yml": 'tags: ["*"]\n',  # the rules of this commit do not apply to its own tag
            },
        )
        self._copy.git("tag", "v1.0.1")
        self._copy.push("refs/tags/v1.0.1")
        status = wait_for(
            "the tag is rejected",
            lambda: self._here.statuses(stray).get("deployer/production", {}),
            seconds=60,
        )
        say(f"    the status says: {status['description']}")
        check("deployer/production is a failure", status["state"] == "failure")
        check(
            "the status names the commit, the branch and the remedy",
            all(words in status["description"] for words in (stray[:12], "main", "deployer approve")),
        )
        found = self._here.environment("production") or {}
        check(
            f"production stays at {self._released[:12]}",
            (found["commit"], found["outcome"]) == (self._released, "deployed"),
        )
        self._check_page(found["id"], "Hello, world", self._released[:12])
        check(
            "no execution built the tagged commit",
            stray not in [each["sha"] for each in self._here.executions(found["id"], automatic=True)],
        )
        approved = self._here.cli("approve", "acme/hello", "v1.0.1")
        say(_indented(approved.stdout))
        name = self._check_deployed("production", stray)
        self._check_page(name, "Hello, world", stray[:12], "<p>Hotfix</p>")
        by = (self._here.environment("production") or {})["admitted"]["by"]
        check(f"the record says: {by}", by.startswith("approved by "))

    def replace_a_failed_stack(self) -> None:
        """A stack that could not be created can only be deleted: the next push deletes it and creates another."""
        self._copy.branch(WEDGED)
        reason = "The service is out of capacity in this zone"
        self._here.fault("aws", {"fail_resources": {"resource": "Test", "on": "create", "reason": reason}})
        first = self._copy.write("Meet bad luck", {})
        self._copy.push()
        found = self._here.settled(f"refs/heads/{WEDGED}", first)
        self._here.clear_faults()
        stack = self._here.stacks()[found["id"]]
        check("the outcome is: failed", found["outcome"] == "failed")
        check(f"the stack is {stack['status']}, kept for inspection", stack["status"] == "ROLLBACK_COMPLETE")
        description = self._here.statuses(first)["deployer/prepare"]["description"]
        say(f"    the status says: {description}")
        line = 1 + self._copy.read("deploy/pipeline.yml").splitlines().index("  Test:")
        check(
            f"the status names the resource, its line in the template ({line}) and AWS's reason",
            all(words in description for words in (f"Test at deploy/pipeline.yml:{line}", reason)),
        )
        say(_indented(self._here.cli("why", "acme/hello", WEDGED).stdout))
        second = self._copy.write("Try again", {})
        self._copy.push()
        name = self._check_deployed(f"refs/heads/{WEDGED}", second)
        check("the stack is another one", self._here.stacks()[name]["id"] != stack["id"])
        self._check_page(name, "development", second[:12])

    def delete_a_branch(self) -> None:
        """The deletion of a branch deletes its stacks and everything in them, and nothing else; a report lists it."""
        kept = {name for name in self._here.stacks() if "feature-hello" not in name}
        before = self._list_resources()
        self._copy.push("--delete", HELLO)
        self._here.deleted(f"refs/heads/{HELLO}")
        check("its stacks are deleted, all others exist", set(self._here.stacks()) == kept)
        gone = before - self._list_resources()
        check(
            f"{len(gone)} buckets, roles, build projects and pipelines are deleted, all of them the branch's",
            bool(gone) and all("feature-hello" in name for _, name in gone),
        )
        left = [name for _, name in self._list_resources() if "feature-hello" in name]
        check(
            "nothing of the branch is left in the account",
            left == [] and self._here.aws_state()["leftovers"] == [],
        )
        receipt = (self._here.environment(f"refs/heads/{HELLO}") or {})["receipt"]
        removed = [each["what"] for each in receipt["removed"]]
        logs = [each for each in removed if each.startswith("log group /aws/codebuild/")]
        check(
            "the report names both stacks, the bucket and the logs of both builds, nothing was retained",
            (len(removed), len(logs)) == (5, 2) and receipt["retained"] == [],
        )
        status = self._here.statuses(self._hello_bad)["deployer/teardown"]
        check(f"the last commit says: {status['description']}", status["state"] == "success")
        receipt = self._check_comment("is the report", "was deleted on", "`stack ", "Nothing was left.")
        say(_indented(receipt))
        say(_indented(self._here.cli("why", "acme/hello", HELLO).stdout))
        for environment in ("staging", "production"):
            found = self._here.environment(environment) or {}
            check(
                f"{environment} still serves its page",
                call("GET", self._here.site(found["id"])).status == 200,
            )

    def _list_resources(self) -> set[tuple[str, str]]:
        """The buckets, roles, build projects and pipelines of the account, as (kind, name)."""
        state = self._here.aws_state()
        found = {("bucket", name) for name in state["buckets"]}
        for kind in ("roles", "projects", "pipelines"):
            found |= {(kind, each["name"]) for each in state[kind]}
        return found

    def resync(self) -> None:
        """A resync finds nothing to do."""
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

    # --- checks of several steps ---

    def _check_deployed(self, environment: str, commit: str) -> str:
        found = self._here.settled(environment, commit)
        check(
            f"{environment.removeprefix('refs/heads/')} is deployed at {commit[:12]}",
            found["outcome"] == "deployed",
        )
        status = self._here.stacks()[found["id"]]["status"]
        check(f"stack {found['id']} is {status}", status in {"CREATE_COMPLETE", "UPDATE_COMPLETE"})
        return str(found["id"])

    def _check_comment(self, what: str, *words: str) -> str:
        def own() -> list[str]:
            return [
                each for each in self._here.comments(self._pull) if each.startswith("<!-- deployer: pull")
            ]

        (text,) = wait_for(
            "the comment on the pull request",
            lambda: [each for each in own() if all(word in each for word in words)],
            30,
        )
        check(f"the comment on the pull request {what}", correct=True)
        check("it is the only one", len(own()) == 1)
        return text.partition("\n")[2]

    def _check_stage_statuses(self, commit: str) -> None:
        wanted = {"deployer": "success"}
        wanted |= {f"deployer/{name}": "success" for name in ("prepare", *STAGES)}
        wait_for(
            "a commit status of every stage",
            lambda: {name: each["state"] for name, each in self._here.statuses(commit).items()} == wanted,
            10,
        )
        check(f"successful on the commit: {', '.join(wanted)}", correct=True)

    def _check_page(self, stack: str, *words: str) -> None:
        url = self._here.site(stack)
        page = call("GET", url)
        check(f"the page is served: {url}", page.status == 200)
        for word in words:
            check(f"the page shows {word!r}", word in page.text)


def say(text: str) -> None:
    """Print and flush, so that a pipe shows progress too."""
    print(text, flush=True)


def check(what: str, correct: bool) -> None:
    """Print a result.

    Raises:
        WrongResultError: the result is wrong.
    """
    if not correct:
        raise WrongResultError(what)
    say(f"  ✓ {what}")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.rstrip().splitlines())


def main() -> int:
    """Run the tour; return the exit status."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="deployer-demo-") as name:
        directory = Path(name)
        # By default a tag waits a minute for its commit to arrive on the default branch, too long for a tour.
        installation = Installation(directory, {"DEPLOYER_TAG_WAIT_SECONDS": "3"})
        say("Starting deployer with a simulated GitHub and AWS ...")
        try:
            with installation.running():
                say(f"  dashboard {installation.web}   GitHub {installation.github}   AWS {installation.aws}")
                tour = Tour(installation, directory)
                for number, (title, step) in enumerate(tour.steps(), start=1):
                    say(f"\n{number}. {title[0].upper()}{title[1:]}")
                    begun = time.monotonic()
                    step()
                    say(f"    ({time.monotonic() - begun:.1f} s)")
            say("\nStopped; no process is left.")
        except (WrongResultError, WaitTimeoutError, RuntimeError) as error:
            say(f"  ✗ {error}\n\nThe end of the log:\n{installation.output()[-6000:]}")
            say("\nThe demonstration FAILED.")
            return 1
    say(f"The demonstration took {time.monotonic() - started:.0f} s: every result is correct.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
