"""The port `Linter`: cfn-lint, which knows the properties of every type of resource, in a process of its own.

Some templates keep it busy for hours, and some it dies of; a template may also name files that it would read rules
from. So it runs as `python -m deployer.adapters.linting` with limits, without our environment and its secrets, and
without what a template says to it but for the checks to leave out. A process of multiprocessing would not do: the
children of Celery's pool may have none.
"""

import hashlib
import json
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from difflib import get_close_matches
from threading import Lock
from typing import Any

from deployer.errors import TransientError, shortage
from deployer.template import FOLDER
from deployer.validation import Finding

# Processor time for one template. People's templates of up to 25 kB take 1.2 s; a worker spends no more on one, since
# others wait. The kernel enforces it, also where the worker's process was killed meanwhile
_MAX_CPU_SECONDS = 3
_MAX_SECONDS = 30  # by the clock: only a machine with far too much to do needs so long
_MAX_MEMORY = 2_000_000_000  # bytes of addresses
_MAX_FINDINGS = 100  # findings
_CACHE_SIZE = 256  # templates
_ALLOWED_CONFIG = {"ignore_checks"}  # of what a template's metadata may say to it
_MAX_CHOICES = 6  # of what would have been right
_TYPE_NAMES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "object": "a mapping",
    "string": "text",
}
# what cfn-lint says -> what people read; `\1` stands as in regular expressions
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
    """See the module.

    Args:
        seconds: after which it is given up, by the clock.
        cpu_seconds: of processor time, after which it is given up.
    """

    def __init__(self, seconds: float = _MAX_SECONDS, cpu_seconds: int = _MAX_CPU_SECONDS) -> None:
        self._seconds = seconds
        self._cpu_seconds = cpu_seconds
        self._cache: OrderedDict[str, list[Finding]] = OrderedDict()
        self._lock = Lock()

    def findings(self, name: str, template: str, regions: Sequence[str]) -> list[Finding]:
        """See `Linter.findings`. What was found is remembered, in this process, for the next time.

        Raises:
            TransientError: the machine has no room for a temporary directory.
        """
        key = hashlib.sha256(json.dumps([name, template, sorted(regions)]).encode()).hexdigest()
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        found, complete = self._run_cfn_lint(name, template, regions)
        if complete:  # what was given up on a busy machine may be looked at the next time
            with self._lock:
                self._cache[key] = found
                while len(self._cache) > _CACHE_SIZE:
                    self._cache.popitem(last=False)
        return found

    def _run_cfn_lint(self, name: str, template: str, regions: Sequence[str]) -> tuple[list[Finding], bool]:
        file = f"{FOLDER}/{name}"

        def note_finding(text: str) -> tuple[list[Finding], bool]:
            return [Finding("note", file, None, text)], False

        request = json.dumps(
            {"template": template, "regions": list(regions), "cpu_seconds": self._cpu_seconds}
        )
        try:
            # what cannot be removed again must not fail a template that was looked at
            directory = tempfile.TemporaryDirectory(prefix="deployer-lint-", ignore_cleanup_errors=True)
        except OSError as error:
            raise TransientError(shortage(error) or f"no temporary directory can be made: {error}") from error
        with directory as home:
            try:
                process = subprocess.run(
                    [sys.executable, "-I", "-m", "deployer.adapters.linting"],
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
                return note_finding(f"given up after {self._seconds:g} s")
            except OSError as error:
                return note_finding(f"it could not be started: {error.strerror}")
        if process.returncode == -signal.SIGXCPU:
            return note_finding(f"given up after {self._cpu_seconds} s of processor time")
        try:
            told: list[dict[str, Any]] | str = json.loads(process.stdout)
        except ValueError:
            if not process.returncode:
                return note_finding("it gave no answer")
            last = process.stderr.strip().splitlines()[-1:]  # of a traceback, if there is one
            return note_finding(": ".join(["it died of the template", *(each[:200] for each in last)]))
        if isinstance(told, str):
            return note_finding(f"it cannot read the template: {told}")
        return [
            Finding("error" if each["error"] else "warning", file, each["line"], explain_match(**each))
            for each in told
        ], True


def explain_match(rule: str, message: str, path: Sequence[str | int], **_: object) -> str:
    """What cfn-lint says, for people: where in the resource, what, and the rule's id last.

    Args:
        rule: its id, by which a template can leave the check out.
        message: as cfn-lint puts it.
        path: keys and positions from the top of the template.
    """
    text = _rewrite_message(rule, " ".join(message.split()))
    steps = [str(step) for step in path if not str(step).startswith("Fn::") and step != "Ref"]
    if steps[:1] == ["Resources"]:
        steps = [step for position, step in enumerate(steps[1:]) if (position, step) != (1, "Properties")]
    where = re.sub(r"\.(\d+)", r"[\1]", ".".join(steps))
    return f"{where}: {text} [{rule}]" if where else f"{text} [{rule}]"


def _rewrite_message(rule: str, text: str) -> str:
    if found := _NOT_ONE_OF.match(text):
        unknown, choices = found[1].strip("'"), re.findall(r"'([^']*)'", found[2])
        close_matches = get_close_matches(unknown, choices, 1)
        if rule == "E1020":
            told = f"nothing in this template is named {unknown}"
        elif rule == "E1010":
            told = f"there is no {unknown}"
        else:
            told = f"{found[1]} is not known"
        more = len(choices) - _MAX_CHOICES
        listed = ", ".join(choices[:_MAX_CHOICES]) + (f" and {more} more" if more > 0 else "")
        return f"{told}; did you mean {close_matches[0]}?" if close_matches else f"{told}; there are {listed}"
    if found := _NOT_OF_TYPE.match(text):
        types = [_TYPE_NAMES.get(each.strip("' "), each.strip("' ")) for each in found[2].split(",")]
        return f"{found[1]} is not {' or '.join(types)}"
    for pattern, words in _REWRITES:
        changed, number = re.subn(pattern, words, text)
        if number:
            return changed.replace("'", "").rstrip("; ")
    return text


def main() -> None:
    """Look at the template on standard input; print what was found, or a text why it could not be, as JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))
    request = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CPU, (request["cpu_seconds"], request["cpu_seconds"] + 1))
    # not at the top: it is large, and who asks has no need of it
    from cfnlint.config import ConfigMixIn  # noqa: PLC0415
    from cfnlint.decode.decode import decode_str  # noqa: PLC0415
    from cfnlint.runner import Runner  # noqa: PLC0415

    try:
        template, matches = decode_str(request["template"])
        if not matches:
            _drop_template_config(template)
            regions = {"regions": request["regions"]} if request["regions"] else {}
            matches = list(Runner(ConfigMixIn([], **regions)).validate_template(template))
    except Exception as error:  # noqa: BLE001  whatever it is, it is cfn-lint's own
        print(json.dumps(f"{type(error).__name__} {error}"[:300]))
    else:
        print(json.dumps([_match_as_json(match) for match in _select_matches(matches)[:_MAX_FINDINGS]]))


def _select_matches(matches: list[Any]) -> list[Any]:
    """Errors first, each in the order of the lines; what a second rule says of the same place is left out."""
    rules: dict[str, str] = {}
    ordered = sorted(matches, key=lambda each: (each.linenumber, each.rule.id, each.message))
    first_of_each_place = [
        each
        for each in ordered
        if rules.setdefault(str(getattr(each, "path", each.id)), each.rule.id) == each.rule.id
    ]
    return sorted(first_of_each_place, key=lambda each: each.rule.severity != "error")


def _drop_template_config(template: Any) -> None:
    """Take out what a template says to cfn-lint, but for the checks to leave out: it may name files to be read."""
    metadata = template.get("Metadata") if isinstance(template, dict) else None
    cfn_lint = metadata.get("cfn-lint") if isinstance(metadata, dict) else None
    config = cfn_lint.get("config") if isinstance(cfn_lint, dict) else None
    if isinstance(config, dict):
        for key in set(config) - _ALLOWED_CONFIG:
            del config[key]


def _match_as_json(match: Any) -> dict[str, Any]:
    return {
        "error": match.rule.severity == "error",
        "line": match.linenumber,
        "rule": match.rule.id,
        "message": match.message,
        "path": list(getattr(match, "path", None) or []),
    }


if __name__ == "__main__":
    main()
