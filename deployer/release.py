"""What a commit's `deploy/` folder asks for: the template and parameters of one environment's stack."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import ConstructorError

from deployer.environments import Environment, ref_tags
from deployer.errors import PermanentError
from deployer.refs import Ref

FOLDER = "deploy"
TEMPLATE_LIMIT = 1_000_000  # bytes that CloudFormation takes by S3
_FILE_LIMIT = 1_000_000
_VALUE_LIMIT = (
    4096  # https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
)
_NODE_LIMIT = 250_000  # keys and values; a template of 1 MB that people write has a third of it
_DIRECTIVE_LIMIT = 100
_DIRECTIVE = re.compile(r"^%TAG", re.MULTILINE)
_MERGE, _TEXT, _FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("merge", "str", "float"))
_SUFFIXES = (".json", ".yml", ".yaml")
_ANY_CASE = {"RepoOwner", "RepoName"}  # GitHub compares them so, and people spell them so
_PIPELINE_TYPE = "AWS::CodePipeline::Pipeline"
SECRET_PARAMETER = "RepoToken"  # noqa: S105  the parameter's name


class _Composer(Composer):
    """PyYAML's own composer, also over libyaml's parser: libyaml's composer dies of deep nesting, with its process."""

    nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):  # type: ignore[attr-defined]
            raise yaml.YAMLError("anchors and aliases are not supported by CloudFormation")
        self.nodes += 1
        if self.nodes > _NODE_LIMIT:
            raise yaml.YAMLError(f"it has more than {_NODE_LIMIT:,} keys and values")
        node = super().compose_node(parent, index)
        # a key is text, as in CloudFormation: `1`, `yes` and `0x10` stay what was written
        if isinstance(parent, yaml.MappingNode) and index is None and isinstance(node, yaml.ScalarNode):
            node.tag = node.tag if node.tag == _MERGE else _TEXT
        return node


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's parser takes a third of the time


class _TemplateLoader(_Composer, _Loader):  # type: ignore[misc]
    """YAML as CloudFormation writes it: `!Ref x` and its kin are kept as plain values."""

    def __init__(self, stream: str) -> None:
        _Loader.__init__(self, stream)
        _Composer.__init__(self)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Make a node's value; one that is not what its tag says is told with its line."""
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, ValueError) as error:
            shown = repr(node.value[:50]) if isinstance(node, yaml.ScalarNode) else "it"
            problem = f"{shown} is no {node.tag.rpartition(':')[2]}"
            raise ConstructorError(problem=problem, problem_mark=node.start_mark) from error


def _keep(loader: Any, _suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return node.value


def _integer(text: str, read: Callable[[], Any]) -> Any:
    """A whole number, or its text where Python could not write it again: beyond 4300 digits it refuses to."""
    try:
        value = read()
        str(value)
    except ValueError:
        return text
    return value


def _number(loader: Any, node: yaml.Node) -> Any:
    # numbers to the base of 60 are no JSON, so no CloudFormation; a long one takes minutes
    if isinstance(node, yaml.ScalarNode) and ":" in node.value:
        return node.value
    if node.tag == _FLOAT:
        return loader.construct_yaml_float(node)
    return _integer(node.value, lambda: loader.construct_yaml_int(node))


_TemplateLoader.add_multi_constructor("!", _keep)
_TemplateLoader.add_constructor("tag:yaml.org,2002:int", _number)
_TemplateLoader.add_constructor(_FLOAT, _number)


@dataclass(frozen=True, slots=True)
class Release:
    """A stack to be: what is handed to CloudFormation.

    Attributes:
        template: the template's text as it stands in the repository.
        parameters: every declared parameter that has a value, without the secret one.
        needs_token: whether the template declares `RepoToken`, which only the adapter fills in.
        tags: the tags that the stack is to bear.
    """

    template: str
    parameters: dict[str, str]
    needs_token: bool
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Tells whether two releases make the same stack. Secrets and the commit's own tags are no part."""
        values = sorted(
            (name, value.lower() if name in _ANY_CASE else value) for name, value in self.parameters.items()
        )
        text = json.dumps([self.template, values, self.needs_token])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def build_release(
    environment: Environment,
    ref: Ref,
    branch: str,
    sha: str,
    files: Mapping[str, bytes],
    given: Mapping[str, str],
) -> Release:
    """Make a release from the files of one commit.

    Args:
        environment: whose stack it is.
        ref: the branch or tag that is deployed.
        branch: the branch that the pipeline's source names: the ref's own, or the default one for a tag.
        sha: the commit.
        files: name to content of the files in `deploy/` at that commit.
        given: what the installation gives to every template: `ArtifactStore`, `ConnectionArn`.

    Raises:
        PermanentError: a file is missing or malformed, or a declared parameter has no value; it names which.
    """
    template_name, content = _pick(files, "pipeline")
    template = _decode(template_name, content)
    fields = _mapping(template_name, _parse(template_name, template))
    resources = fields.get("Resources")
    if not isinstance(resources, dict) or not any(
        isinstance(resource, dict) and resource.get("Type") == _PIPELINE_TYPE
        for resource in resources.values()
    ):
        raise PermanentError(f"{FOLDER}/{template_name} has no resource of type {_PIPELINE_TYPE}")
    declared = fields.get("Parameters") or {}
    if not isinstance(declared, dict):
        raise PermanentError(f"{FOLDER}/{template_name}: Parameters is not a mapping")
    ours = {
        **given,
        "RepoOwner": environment.repository.owner,
        "RepoName": environment.repository.name,
        "RepoBranch": branch,
        "Stage": str(environment.kind),
        "PipelineName": environment.stack_name,
        "CommitId": sha,
        "RefName": ref.name,
        "StackConfiguration": json.dumps({"Tags": environment.tags}, separators=(",", ":"), sort_keys=True),
    }
    theirs = _their_parameters(files, environment)
    parameters = _values(template_name, declared, ours, theirs)
    release = Release(template, parameters, SECRET_PARAMETER in declared)
    tags = {
        **ref_tags(ref.name),
        "deployer:commit": sha,
        "deployer:digest": release.digest,
        **environment.tags,
    }
    return Release(release.template, release.parameters, release.needs_token, tags)


def has_pipeline(files: Mapping[str, bytes]) -> bool:
    """Whether the folder asks for a pipeline at all."""
    return any(f"pipeline{suffix}" in files for suffix in _SUFFIXES)


def _pick(files: Mapping[str, bytes], stem: str) -> tuple[str, bytes]:
    found = [stem + suffix for suffix in _SUFFIXES if stem + suffix in files]
    if not found:
        raise PermanentError(f"{FOLDER}/{stem}.yml (or .yaml, .json) is missing")
    if len(found) > 1:
        raise PermanentError(f"{FOLDER}/ has {' and '.join(found)}; keep one of them")
    return found[0], files[found[0]]


def _decode(name: str, content: bytes) -> str:
    if len(content) > _FILE_LIMIT:
        raise PermanentError(
            f"{FOLDER}/{name} has {len(content):,} bytes; at most {_FILE_LIMIT:,} are allowed"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PermanentError(f"{FOLDER}/{name} is not UTF-8 text (byte {error.start})") from error


def _parse(name: str, text: str) -> Any:
    try:
        if name.endswith(".json"):
            return json.loads(text, parse_int=lambda digits: _integer(digits, lambda: int(digits)))
        if len(_DIRECTIVE.findall(text)) > _DIRECTIVE_LIMIT:  # libyaml compares each with all before it
            raise yaml.YAMLError(f"it has more than {_DIRECTIVE_LIMIT} lines that begin with %TAG")
        return yaml.load(text, Loader=_TemplateLoader)  # noqa: S506  a SafeLoader
    except json.JSONDecodeError as error:
        raise PermanentError(f"{FOLDER}/{name} line {error.lineno}: not JSON: {error.msg}") from error
    except yaml.MarkedYAMLError as error:
        # libyaml may take the end of a file for a line of its own
        last = max(len(text.splitlines()), 1)
        line = f" line {min(error.problem_mark.line + 1, last)}" if error.problem_mark else ""
        raise PermanentError(f"{FOLDER}/{name}{line}: not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PermanentError(f"{FOLDER}/{name} cannot be read: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PermanentError(f"{FOLDER}/{name} is not a mapping at its top level")
    return value


def _their_parameters(files: Mapping[str, bytes], environment: Environment) -> dict[str, str]:
    if not any(f"pipeline.parameters{suffix}" in files for suffix in _SUFFIXES):
        return {}
    name, content = _pick(files, "pipeline.parameters")
    kinds = _mapping(name, _parse(name, _decode(name, content)))
    listed = kinds.get(str(environment.kind))
    if listed is None:
        return {}
    if isinstance(listed, dict):
        return {str(key): _value(name, str(key), value) for key, value in listed.items()}
    if not isinstance(listed, list):
        raise PermanentError(f"{FOLDER}/{name}: {environment.kind} is neither a list nor a mapping")
    values = {}
    for position, entry in enumerate(listed, start=1):
        if not isinstance(entry, dict) or not {"ParameterKey", "ParameterValue"} <= entry.keys():
            raise PermanentError(
                f"{FOLDER}/{name}: entry {position} of {environment.kind} lacks ParameterKey or ParameterValue"
            )
        key = str(entry["ParameterKey"])
        values[key] = _value(name, key, entry["ParameterValue"])
    return values


def _value(name: str, key: str, value: Any) -> str:
    text = _text(name, key, value)
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair, which no UTF-8 holds
        raise PermanentError(f"{FOLDER}/{name}: the value of {key} is not valid Unicode") from error
    if size > _VALUE_LIMIT:
        raise PermanentError(
            f"{FOLDER}/{name}: the value of {key} is longer than {_VALUE_LIMIT:,} bytes, which CloudFormation refuses"
        )
    return text


def _text(name: str, key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, (str, int)) for item in value):
        return ",".join(str(item) for item in value)
    raise PermanentError(f"{FOLDER}/{name}: the value of {key} is neither text, number nor list")


def _values(
    template_name: str, declared: Mapping[str, Any], ours: Mapping[str, str], theirs: Mapping[str, str]
) -> dict[str, str]:
    values = {}
    for name, rules in declared.items():
        if name == SECRET_PARAMETER:
            if not (isinstance(rules, dict) and str(rules.get("NoEcho")).lower() == "true"):
                raise PermanentError(f"{FOLDER}/{template_name}: parameter {name} must say NoEcho: true")
            continue
        # what identifies the environment is ours to say: a branch must not pose as production
        if name in ours:
            values[name] = ours[name]
        elif name in theirs:
            values[name] = theirs[name]
        elif not (isinstance(rules, dict) and "Default" in rules):
            raise PermanentError(
                f"{FOLDER}/{template_name} declares parameter {name}, which has no default and no value in"
                f" {FOLDER}/pipeline.parameters.json"
            )
    if unknown := sorted(set(theirs) - set(declared) - set(ours)):
        raise PermanentError(
            f"{FOLDER}/pipeline.parameters gives {', '.join(unknown)}, which {FOLDER}/{template_name} does not declare"
        )
    return values
