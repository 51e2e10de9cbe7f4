"""What is wrong with a template and its parameters, told before AWS is asked: all of it, each with file and line.

Nothing here knows AWS; what only AWS knows is not judged. The limits are those of
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deployer.environments import Kind
from deployer.evaluation_budget import EvaluationBudget
from deployer.findings import Finding
from deployer.resolving import Resolver
from deployer.resource_names import NAMES
from deployer.template import Document, twice
from deployer.template_values import Path, mapping
from deployer.text_sets import UNKNOWN

PIPELINE_TYPE = "AWS::CodePipeline::Pipeline"
GIT_PROVIDERS = ("CodeStarSourceConnection", "GitHub", "CodeCommit")
_LIMITS = {"Parameters": 200, "Resources": 500, "Outputs": 200, "Mappings": 200}
_OWN = "\ufff9"  # stands for what no two branches share
_NAMES_A_STACK = ("PipelineName", "AWS::StackName", "AWS::StackId")  # no two environments share these
_NAMES_A_BRANCH = (*_NAMES_A_STACK, "RepoBranch", "RefName", "StackConfiguration")
# names that a whole account, or all of AWS, has but once: the second branch could never be made
_ONCE = {"AWS::IAM::Role", "AWS::IAM::User", "AWS::IAM::ManagedPolicy", "AWS::S3::Bucket", PIPELINE_TYPE}


def structure(document: Document) -> list[Finding]:
    """What keeps a template from being looked at any further."""
    found = [Finding("error", document.file, line, twice(key)) for key, line in document.repeated[:100]]
    for section in ("Resources", "Parameters", "Conditions", "Mappings", "Outputs"):
        value = document.fields.get(section)
        if value is not None and not isinstance(value, dict):
            line = document.line_of(section)
            found.append(Finding("error", document.file, line, f"{section} is not a mapping"))
        elif isinstance(value, dict) and len(value) > _LIMITS.get(section, len(value)):
            text = f"{len(value)} {section}; CloudFormation takes at most {_LIMITS[section]}"
            found.append(Finding("error", document.file, document.line_of(section), text))
    resources = document.fields.get("Resources")
    if resources is None or (isinstance(resources, dict) and not any(map(_is_pipeline, _all(resources)))):
        line = document.line_of("Resources") or 1
        text = f"no resource of type {PIPELINE_TYPE}: each environment needs its pipeline"
        found.append(Finding("error", document.file, line, text))
    return found


def _all(resources: Any) -> Iterator[Any]:
    for name, resource in resources.items():
        yield resource
        if name.startswith("Fn::ForEach::") and isinstance(resource, list):
            for part in resource:
                yield from mapping(part).values()


def _is_pipeline(resource: Any) -> bool:
    return isinstance(resource, dict) and resource.get("Type") == PIPELINE_TYPE


def template_findings(
    document: Document, kind: Kind, stack_name: str, values: Mapping[str, str], resolver: Resolver
) -> Iterator[Finding]:
    """What is wrong with the pipeline and the names in a template of sound structure.

    Args:
        document: the template.
        kind: the kind of environment that it is for.
        stack_name: the name of the stack and pipeline.
        values: what each of its parameters is given.
        resolver: of this template with these values.

    Raises:
        TooComplexError: a text in it may come to be hundreds, or the resolver's budget has not enough left.
    """
    misnamed = list(_misnamed(document, stack_name, resolver))
    yield from misnamed
    yield from _sourceless(document, stack_name, resolver)
    yield from _twins(document, resolver)

    def apart(own: Sequence[str]) -> Resolver:
        """Works texts out so that what no two branches share shows in them."""
        known = {name: _OWN if name in own else value for name, value in values.items()}
        pseudo = {name: _OWN for name in own if name.startswith("AWS::")}
        return Resolver(document.fields, known, pseudo, resolver.budget)

    if kind is Kind.DEVELOPMENT:
        for shared, finding in _shared_names(document, apart(_NAMES_A_BRANCH)):
            if not (misnamed and shared == PIPELINE_TYPE):  # one word on its name is enough
                yield finding
        yield from _shared_stacks(document, apart(_NAMES_A_STACK))


def _misnamed(document: Document, stack_name: str, resolver: Resolver) -> Iterator[Finding]:
    """A pipeline that deployer would not find."""
    made = [(path, each) for path, each in resolver.made() if _is_pipeline(each)]
    names = [(path, resolver.name(each)) for path, each in made]
    ours = [path for path, texts in names if stack_name in texts]
    if made and not ours and not any(UNKNOWN in text for _, texts in names for text in texts):
        path, texts = names[0]
        shown = f"{texts[0]!r}" if texts else "chosen by AWS"
        yield Finding(
            "error",
            document.file,
            document.nearest_line(*path, "Properties", "Name"),
            f"the pipeline's Name is {shown}; it must be !Ref PipelineName (or !Ref AWS::StackName), by which"
            " deployer finds it",
        )


def _sourceless(document: Document, stack_name: str, resolver: Resolver) -> Iterator[Finding]:
    """A pipeline that deployer could not start with a commit."""
    made = [(path, each) for path, each in resolver.made() if _is_pipeline(each)]
    ours = [each for each in made if stack_name in resolver.name(each[1])]
    for path, resource in ours or made:  # others are not started by deployer
        stages = mapping(resource.get("Properties")).get("Stages")
        first = stages[0] if isinstance(stages, list) and stages else None
        actions = mapping(first).get("Actions")
        if not isinstance(actions, list) or any("Fn::If" in mapping(each) for each in actions):
            continue
        kinds = [mapping(mapping(each).get("ActionTypeId")) for each in actions]
        providers = [text for kind in kinds for text in resolver.texts(kind.get("Provider"))]
        if not any(text in GIT_PROVIDERS or UNKNOWN in text for text in providers):
            yield Finding(
                "error",
                document.file,
                document.nearest_line(*path, "Properties", "Stages", 0, "Actions"),
                "the pipeline's first stage has no source action that reads a git repository; its Provider is"
                " CodeStarSourceConnection",
            )


def _twins(document: Document, resolver: Resolver) -> Iterator[Finding]:
    """Two resources of one type and name in one template."""
    seen: dict[tuple[str, str], str] = {}
    for path, resource in resolver.made():
        kind = str(resource.get("Type"))
        texts = resolver.name(resource)
        perhaps = "Condition" in resource and resolver.conditions.holds(resource["Condition"]) is None
        if perhaps or len(texts) != 1 or UNKNOWN in texts[0]:
            continue
        other = seen.setdefault((kind, texts[0]), str(path[-1]))
        if other != str(path[-1]):
            line = document.nearest_line(*path, "Properties", NAMES[kind])
            text = f"{path[-1]} has the name {texts[0]!r} that {other} has already; {kind} needs names that differ"
            yield Finding("error", document.file, line, text)


def _shared_names(document: Document, resolver: Resolver) -> Iterator[tuple[str, Finding]]:
    """Types and names that every branch's stack would give to a resource of its own.

    AWS refuses the second of them whatever we say, so this widens nobody's rights; it is told early because the branch
    that meets it is not the one that wrote it. Where a whole account or all of AWS has one name but once, two branches
    can never stand side by side, which is what a pipeline per branch is for: an error. Names of a region or of a
    service's own scope are a warning: a template may mean to have one branch only.
    """
    for path, resource in resolver.made():
        kind = str(resource.get("Type"))
        for text in resolver.name(resource):
            if _OWN in text or UNKNOWN in text:
                continue
            finding = Finding(
                "error" if kind in _ONCE else "warning",
                document.file,
                document.nearest_line(*path, "Properties", NAMES[kind]),
                f"{path[-1]} is named {text!r} on every branch, and AWS takes a name but once; write"
                f" !Sub ${{PipelineName}}-{_tail(text)}, or leave {NAMES[kind]} out",
            )
            yield kind, finding
            break


def _tail(text: str) -> str:
    return text.rpartition("/")[2][:40] or "name"


def _shared_stacks(document: Document, resolver: Resolver) -> Iterator[Finding]:
    """Stacks that every branch's pipeline would deploy to."""
    for path, resource in resolver.made():
        if not _is_pipeline(resource):
            continue
        stages = mapping(resource.get("Properties")).get("Stages")
        for inner, action in _actions(stages, (*path, "Properties", "Stages"), resolver.budget):
            configuration = mapping(action.get("Configuration"))
            kind = mapping(action.get("ActionTypeId"))
            if "CloudFormation" not in resolver.texts(kind.get("Provider")):
                continue
            for text in resolver.texts(configuration.get("StackName")):
                if _OWN in text or UNKNOWN in text or "#{" in text:
                    continue
                yield Finding(
                    "error",
                    document.file,
                    document.nearest_line(*inner, "Configuration", "StackName"),
                    f"every branch would deploy to one stack, {text!r}; write !Sub ${{PipelineName}}-{_tail(text)}",
                )
                break


def _actions(value: Any, path: Path, budget: EvaluationBudget) -> Iterator[tuple[Path, dict[str, Any]]]:
    if isinstance(value, (dict, list)):
        budget.spend(1 + len(value), 0, value)
    if isinstance(value, dict):
        if "ActionTypeId" in value:
            yield path, value
        for key, inner in value.items():
            yield from _actions(inner, (*path, key), budget)
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _actions(inner, (*path, position), budget)
