"""The check of a template by cfn-lint in a separate process: implements the port `Linter`.

cfn-lint knows the properties of every resource type. Some templates keep it busy for hours or make it crash, and a
template's metadata may name files to read rules from. So cfn-lint runs in another process (`lint_program`) with limits
and without deployer's environment variables, which contain secrets. The module multiprocessing cannot be used, because
the processes of Celery's pool are daemonic and may not start such children.
"""

import hashlib
import json
import re
import signal
import subprocess
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from threading import Lock
from typing import Any

from deployer.model.errors import TransientError, machine_shortage
from deployer.templates.findings import Finding
from deployer.templates.folder_files import FOLDER

# Seconds of processor time for one template. Real templates of up to 25 kB take 1.2 s. The limit is low because other
# tasks wait for the worker. The kernel enforces it, even if the worker's process is killed in the meantime.
_MAX_CPU_SECONDS = 3
_MAX_SECONDS = 30  # of elapsed time; only an overloaded machine needs that long
_CACHE_SIZE = 256  # templates whose findings are cached
_MAX_CHOICES = 6  # valid values in one message
_TYPE_NAMES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "object": "a mapping",
    "string": "text",
}
# message of cfn-lint (a regular expression) -> message for people (`\1` is the first group)
_REWRITES = (
    (r"^Additional properties are not allowed \((\S+) was unexpected\. Did you mean (\S+)\?\)$", r"\1 is not known here; did you mean \2?"),  # noqa: E501
    (r"^Additional properties are not allowed \((.+) (?:was|were) unexpected\)$", r"\1 is not known here"),
    (r"^Only one of \[(.+)\] is a required property$", r"one of \1 is needed"),
    (r"^(.+) is a required property$", r"\1 is missing"),
    (r"^expected minimum item count: (\d+), found: (\d+)$", r"it has \2 entries; at least \1 are needed"),
    (r"^expected maximum item count: (\d+), found: (\d+)$", r"it has \2 entries; at most \1 are taken"),
    (r"^Resource type (\S+) does not exist in (\S+)$", r"the type \1 is not known in \2"),
    (r"^(?:Parameter|Condition|Mapping) '?\S+?'? (?:is )?not used\.?$", r"it is declared and not used"),
)  # fmt: skip
_NOT_ONE_OF = re.compile(r"^(.+?) is not one of \[(.+?)\](?: in .+)?$")
_NOT_OF_TYPE = re.compile(r"^(.+) is not of type (.+)$")


class CfnLint:
    """Implements the port `Linter`.

    Args:
        seconds: the limit of elapsed time for one template.
        cpu_seconds: the limit of processor time for one template, in seconds.
    """

    def __init__(self, seconds: float = _MAX_SECONDS, cpu_seconds: int = _MAX_CPU_SECONDS) -> None:
        self._seconds = seconds
        self._cpu_seconds = cpu_seconds
        self._cache: OrderedDict[str, list[Finding]] = OrderedDict()
        self._lock = Lock()

    def findings(
        self, name: str, template: str, regions: Sequence[str], conditions: Mapping[str, bool]
    ) -> list[Finding]:
        """See `Linter.findings`. This process caches the findings.

        Raises:
            TransientError: no temporary directory can be created.
        """
        asked = [name, template, sorted(regions), sorted(conditions.items())]
        key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        found, complete = self._run_cfn_lint(name, template, regions, conditions)
        if complete:  # a check that was stopped on a busy machine is tried again the next time
            with self._lock:
                self._cache[key] = found
                while len(self._cache) > _CACHE_SIZE:
                    self._cache.popitem(last=False)
        return found

    def _run_cfn_lint(
        self, name: str, template: str, regions: Sequence[str], conditions: Mapping[str, bool]
    ) -> tuple[list[Finding], bool]:
        file = f"{FOLDER}/{name}"

        def note_finding(text: str) -> tuple[list[Finding], bool]:
            return [Finding("note", file, None, text)], False

        request = json.dumps(
            {
                "template": template,
                "regions": list(regions),
                "conditions": dict(conditions),
                "cpu_seconds": self._cpu_seconds,
            }
        )
        try:
            # A directory that cannot be deleted must not fail the check, which is already done.
            directory = tempfile.TemporaryDirectory(prefix="deployer-lint-", ignore_cleanup_errors=True)
        except OSError as error:
            raise TransientError(
                machine_shortage(error) or f"no temporary directory can be created: {error}"
            ) from error
        with directory as home:
            try:
                process = subprocess.run(
                    [sys.executable, "-I", "-m", "deployer.aws.lint_program"],
                    input=request,
                    capture_output=True,
                    text=True,
                    encoding="utf-8",
                    timeout=self._seconds,
                    cwd=home,
                    env={"HOME": home, "PATH": ""},
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return note_finding(f"stopped after {self._seconds:g} s")
            except OSError as error:
                return note_finding(f"could not be started: {error.strerror}")
        if process.returncode == -signal.SIGXCPU:
            return note_finding(f"stopped after {self._cpu_seconds} s of processor time")
        try:
            result: list[dict[str, Any]] | str = json.loads(process.stdout)
        except ValueError:
            if not process.returncode:
                return note_finding("returned no result")
            last = process.stderr.strip().splitlines()[-1:]  # the last line of a traceback, if there is one
            return note_finding(": ".join(["crashed on the template", *(each[:200] for each in last)]))
        if isinstance(result, str):
            return note_finding(f"cannot parse the template: {result}")
        return [
            Finding(
                "error" if each["rejected"] else "warning",
                file,
                each["line"],
                explain_match(each["rule"], each["message"]),
                subject=place_of_path(each["path"]),
            )
            for each in result
        ], True


def place_of_path(path: Sequence[str | int]) -> str:
    """The place in a template for people, as `Bucket.Tags[0]:`; empty for the whole template.

    Args:
        path: keys and list positions from the top of the template.
    """
    steps = [str(step) for step in path if not str(step).startswith("Fn::") and step != "Ref"]
    if steps[:1] == ["Resources"]:
        steps = [step for position, step in enumerate(steps[1:]) if (position, step) != (1, "Properties")]
    return re.sub(r"\.(\d+)", r"[\1]", ".".join(steps)) + ":" * bool(steps)


def explain_match(rule: str, message: str) -> str:
    """Return a finding of cfn-lint as a text for people, with the rule's id.

    Args:
        rule: the rule's id. A template can name it to leave the check out.
        message: the message of cfn-lint.
    """
    return f"{_rewrite_message(rule, ' '.join(message.split()))} [{rule}]"


def _rewrite_message(rule: str, text: str) -> str:
    if found := _NOT_ONE_OF.match(text):
        unknown, choices = found[1].strip("'"), re.findall(r"'([^']*)'", found[2])
        close_matches = get_close_matches(unknown, choices, 1)
        if rule == "E1020":
            text_start = f"nothing in this template is named {unknown}"
        elif rule == "E1010":
            text_start = f"there is no {unknown}"
        else:
            text_start = f"{found[1]} is not known"
        more = len(choices) - _MAX_CHOICES
        listed = ", ".join(choices[:_MAX_CHOICES]) + (f" and {more} more" if more > 0 else "")
        return (
            f"{text_start}; did you mean {close_matches[0]}?"
            if close_matches
            else f"{text_start}; there are {listed}"
        )
    if found := _NOT_OF_TYPE.match(text):
        types = [_TYPE_NAMES.get(each.strip("' "), each.strip("' ")) for each in found[2].split(",")]
        return f"{found[1]} is not {' or '.join(types)}"
    for pattern, words in _REWRITES:
        changed, number = re.subn(pattern, words, text)
        if number:
            return changed.replace("'", "").rstrip("; ")
    return text
