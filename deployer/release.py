"""What a commit's `deploy/` folder asks for: the template and parameters of one environment's stack."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from deployer.environments import Environment, Kind, ref_tags
from deployer.errors import PermanentError
from deployer.preferences import Preferences, read_preferences
from deployer.refs import Ref
from deployer.resolving import Path, Resolver, TooManyError, mapping, path_to, plain
from deployer.rights import rights_findings
from deployer.targets import Target
from deployer.template import FILE_LIMIT, FOLDER, SUFFIXES, Document, UnreadableError, pick, read
from deployer.validation import (
    SECRET_PARAMETER,
    VALUE_LIMIT,
    Finding,
    refusal,
    structure,
    template_findings,
    value_problem,
)

__all__ = [
    "FOLDER",
    "SECRET_PARAMETER",
    "TEMPLATE_LIMIT",
    "Checked",
    "Release",
    "check_release",
]

TEMPLATE_LIMIT = FILE_LIMIT
TEARDOWN_TAG = "deployer:teardown"
_T = TypeVar("_T")
_MOST_FINDINGS = 100
_ANY_CASE = {"RepoOwner", "RepoName"}  # GitHub compares them so, and people spell them so


@dataclass(frozen=True, slots=True)
class Release:
    """A stack to be: what is handed to CloudFormation.

    Attributes:
        template: the template's text as it stands in the repository.
        parameters: every declared parameter that has a value, without the secret one.
        needs_token: whether the template declares `RepoToken`, which only the adapter fills in.
        tags: the tags that the stack is to bear.
        teardown: how the stack is taken down, where the repository wants it otherwise than by default.
    """

    template: str
    parameters: dict[str, str]
    needs_token: bool
    tags: dict[str, str] = field(default_factory=dict)
    teardown: str = ""

    @property
    def digest(self) -> str:
        """Tells whether two releases make the same stack. Secrets and the commit's own tags are no part."""
        values = sorted(
            (name, value.lower() if name in _ANY_CASE else value) for name, value in self.parameters.items()
        )
        parts = [self.template, values, self.needs_token, *([self.teardown] if self.teardown else [])]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in a `deploy/` folder.

    Attributes:
        release: what is to be deployed; None where an error keeps it from being.
        findings: everything there is to be said, errors first.
        template: the template as it was read, which knows its lines; None if it cannot be.
        preferences: what the repository decides of its environments.
    """

    release: Release | None
    findings: tuple[Finding, ...]
    template: Document | None = None
    preferences: Preferences = field(default_factory=Preferences)

    def accepted(self) -> Release:
        """What is to be deployed.

        Raises:
            PermanentError: there is an error; it tells the first one with file and line, and how many more there are.
        """
        if self.release is None:
            raise PermanentError(refusal(self.findings))
        return self.release


def check_release(
    environment: Environment,
    ref: Ref,
    branch: str,
    sha: str,
    files: Mapping[str, bytes],
    given: Mapping[str, str],
    target: Target | None = None,
    region: str = "",
    stack_name: str = "",
) -> Checked:
    """Look at the files of one commit, and make a release of them if nothing is wrong.

    Args:
        environment: whose stack it is.
        ref: the branch or tag that is deployed.
        branch: the branch that the pipeline's source names: the ref's own, or the default one for a tag.
        sha: the commit.
        files: name to content of the files in `deploy/` at that commit.
        given: what the installation gives to every template: `ArtifactStore`, `ConnectionArn`.
        target: where the environment is to live; None if rights are not to be looked at.
        region: where the stack is to be; empty if that is not known.
        stack_name: the name of the stack and pipeline; by default that of a new stack.
    """
    stack_name = stack_name or environment.stack_name
    findings: list[Finding] = []
    template = _reading(findings, lambda: _template(files))
    preferences = _reading(findings, lambda: read_preferences(files)) or Preferences()
    if target and environment.kind is Kind.DEVELOPMENT:
        _reading(findings, lambda: preferences.narrowed(target.regions))
    theirs = _reading(findings, lambda: _their_parameters(files, environment)) or _Theirs(readable=False)
    findings += theirs.findings
    if template is None:
        return Checked(None, tuple(findings), None, preferences)
    findings += structure(template)
    if any(each.file == template.file for each in findings):  # what is no template has nothing to look at
        return Checked(None, tuple(findings), template, preferences)
    wanted = "" if preferences.teardown == Preferences().teardown else preferences.teardown_text
    # what the pipeline deploys is to be taken down likewise, though the pipeline's own stack be lost
    handed_on = {**environment.tags, **({TEARDOWN_TAG: wanted} if wanted else {})}
    ours = {
        **given,
        "RepoOwner": environment.repository.owner,
        "RepoName": environment.repository.name,
        "RepoBranch": branch,
        "Stage": str(environment.kind),
        "PipelineName": stack_name,
        "CommitId": sha,
        "RefName": ref.name,
        "StackConfiguration": json.dumps({"Tags": handed_on}, separators=(",", ":"), sort_keys=True),
    }
    values = {
        name: ours[name] if name in ours else theirs.values[name]
        for name in mapping(template.fields.get("Parameters"))
        # what identifies the environment is ours to say: a branch must not pose as production
        if name != SECRET_PARAMETER and (name in ours or name in theirs.values)
    }
    try:
        resolver = Resolver(template.fields, values, _pseudo_parameters(stack_name, target, region))
        found = [
            _parameter_findings(template, values, ours, theirs),
            template_findings(template, environment.kind, stack_name, values, resolver),
        ]
        if target:
            places = {name: theirs.place(name) for name in values if name not in ours}
            found.append(
                rights_findings(
                    template, environment.kind, stack_name, values, places, resolver, target, given
                )
            )
        for each in found:
            findings += islice(each, _MOST_FINDINGS)  # nobody reads more
    except TooManyError as error:
        line = template.nearest_line(*path_to(error.args[0], template.fields)) if error.args else None
        text = "a text here may come to be hundreds of texts, or a very long one; write it plainly"
        findings.append(Finding("error", template.file, line, text))
    except RecursionError:
        findings.append(Finding("error", template.file, None, "it is nested too deeply"))
    findings.sort(key=lambda each: each.level != "error")
    if refusal(findings):
        return Checked(None, tuple(findings), template, preferences)
    release = Release(
        template.text, values, SECRET_PARAMETER in mapping(template.fields.get("Parameters")), teardown=wanted
    )
    tags = {
        **ref_tags(ref.name),
        "deployer:commit": sha,
        "deployer:digest": release.digest,
        TEARDOWN_TAG: preferences.teardown_text,
        **environment.tags,
    }
    made = Release(release.template, release.parameters, release.needs_token, tags, wanted)
    return Checked(made, tuple(findings), template, preferences)


def has_pipeline(files: Mapping[str, bytes]) -> bool:
    """Whether the folder asks for a pipeline at all."""
    return any(f"pipeline{suffix}" in files for suffix in SUFFIXES)


def _template(files: Mapping[str, bytes]) -> Document:
    name = pick(files, "pipeline")
    if name is None:
        raise UnreadableError(f"{FOLDER}/pipeline.yml", None, "it is missing (.yaml or .json would do)")
    return read(name, files[name])


def _reading(findings: list[Finding], look: Callable[[], _T]) -> _T | None:
    """What is read, or None and a finding why it cannot be."""
    try:
        return look()
    except UnreadableError as error:
        every = (error, *error.others)
        findings += [Finding("error", each.file, each.line, each.text) for each in every]
    return None


@dataclass(frozen=True, slots=True)
class _Theirs:
    """Parameters that the repository gives, where each of them stands, and what is wrong with them."""

    document: Document | None = None
    values: dict[str, str] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    readable: bool = True

    def place(self, name: str) -> tuple[str, int | None]:
        """File and line of a parameter's value."""
        file = self.document.file if self.document else FOLDER
        return file, self.document.nearest_line(*self.paths[name]) if self.document else None


def _their_parameters(files: Mapping[str, bytes], environment: Environment) -> _Theirs:
    name = pick(files, "pipeline.parameters")
    if name is None:
        return _Theirs()
    document = read(name, files[name])
    theirs = _Theirs(document)

    def refuse(path: Path, text: str) -> None:
        if len(theirs.findings) < _MOST_FINDINGS:
            line = document.nearest_line(*path)
            theirs.findings.append(Finding("error", document.file, line, text))

    for key in document.fields:
        if key not in set(Kind):
            refuse((key,), f"{str(key)[:80]!r} is no kind of environment: {', '.join(Kind)}")
    for path, key, value in _entries(document, str(environment.kind), refuse):
        problem, text = _text(key, value)
        if problem:
            refuse(path, problem)
        theirs.values[key], theirs.paths[key] = text, path
    return theirs


def _entries(
    document: Document, kind: str, refuse: Callable[[Path, str], None]
) -> Iterator[tuple[Path, str, Any]]:
    """Path, name and value of each parameter of a kind of environment; either form of the file."""
    listed = document.fields.get(kind)
    if isinstance(listed, dict):
        yield from (((kind, key), str(key), value) for key, value in listed.items())
    elif isinstance(listed, list):
        for position, entry in enumerate(listed):
            if not isinstance(entry, dict) or not {"ParameterKey", "ParameterValue"} <= entry.keys():
                text = f"entry {position + 1} of {kind} lacks ParameterKey or ParameterValue"
                refuse((kind, position), text)
            else:
                path = (kind, position, "ParameterValue")
                yield path, str(entry["ParameterKey"]), entry["ParameterValue"]
    elif listed is not None:
        refuse((kind,), f"{kind} is neither a list nor a mapping")


def _text(key: str, value: Any) -> tuple[str, str]:
    """What is wrong with a value, or else its text."""
    if isinstance(value, list) and all(isinstance(item, (str, int)) for item in value):
        text = ",".join(str(item) for item in value)
    elif isinstance(value, (str, int, float)):
        text = plain(value) or ""
    else:
        return f"the value of {key} is neither text, number nor list", ""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair, which no UTF-8 holds
        return f"the value of {key} is not valid Unicode", ""
    if size > VALUE_LIMIT:
        return f"the value of {key} is longer than {VALUE_LIMIT:,} bytes, which CloudFormation refuses", ""
    return "", text


def _parameter_findings(
    template: Document, values: Mapping[str, str], ours: Mapping[str, str], theirs: _Theirs
) -> Iterator[Finding]:
    """What is declared and not given, given and not declared, and what CloudFormation would not take."""
    declared = mapping(template.fields.get("Parameters"))
    for name, rules in declared.items():
        here = (template.file, template.line_of("Parameters", name))
        known = mapping(rules)
        value = values.get(name, plain(known.get("Default")))
        if name == SECRET_PARAMETER:
            if str(known.get("NoEcho")).lower() != "true":
                yield Finding("error", *here, f"parameter {name} must say NoEcho: true")
        elif value is None and theirs.readable:
            text = f"parameter {name} has no default and no value in {FOLDER}/pipeline.parameters.json"
            yield Finding("error", *here, text)
        elif value is not None and (problem := value_problem(known, value)):
            # what a branch may choose is told where it stands; all else where it is declared
            where = theirs.place(name) if name in theirs.paths and name not in ours else here
            yield Finding("error", *where, f"{name} {problem}")
    for name in theirs.values:
        if name not in declared and name not in ours:
            text = f"{name[:100]} is given here, and {template.file} does not declare it"
            yield Finding("error", *theirs.place(name), text)


def _pseudo_parameters(stack_name: str, target: Target | None, region: str) -> dict[str, str]:
    """Those that AWS gives, as far as they are known."""
    account = target.account if target else ""
    if target and not region and len(target.regions) == 1:
        region = target.regions[0]
    partition = {"cn": "aws-cn", "us-gov": "aws-us-gov"}.get(
        region.rpartition("-")[0].rpartition("-")[0], "aws"
    )
    known = {
        "AWS::AccountId": account,
        "AWS::Region": region,
        "AWS::Partition": partition if region else "",
        "AWS::StackName": stack_name,
    }
    return {name: value for name, value in known.items() if value}
