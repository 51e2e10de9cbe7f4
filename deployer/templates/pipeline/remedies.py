"""What a person writes to correct a template, in the words of the tool that the person uses."""

import json
from typing import Any

from deployer.templates.document import Document
from deployer.templates.evaluation.values import KeyPath, as_mapping, as_text

REPOSITORY_PARAMETERS = ("RepoOwner", "RepoName", "RepoBranch")
_BOOTSTRAP_PARAMETER = "/cdk-bootstrap/"
_CDK_PATH = "aws:cdk:path"
_PIPELINE_CONSTRUCT = "cfnPipeline"  # as docs/pipelines.md calls it


def is_synthesized_by_cdk(document: Document) -> bool:
    """Whether the AWS CDK wrote a template, so that a person changes the program and not the template."""
    parameters = as_mapping(document.fields.get("Parameters"))
    version = as_text(as_mapping(parameters.get("BootstrapVersion")).get("Default")) or ""
    if version.startswith(_BOOTSTRAP_PARAMETER):
        return True
    resources = map(as_mapping, as_mapping(document.fields.get("Resources")).values())
    return any(_CDK_PATH in as_mapping(each.get("Metadata")) for each in resources)


def line_to_write(document: Document, key: str, value: Any) -> str:
    """A line of the template with the key and the value, in the template's own language.

    Args:
        document: the template.
        key: the key.
        value: a text, a boolean, or one of `Ref` and `Fn::Sub` in its long form.
    """
    if document.file.endswith(".json"):
        return f"{json.dumps(key)}: {json.dumps(value)}"
    if isinstance(value, dict):
        ((function, given),) = value.items()
        return f"{key}: !{function.removeprefix('Fn::')} {given}"
    return f"{key}: {as_text(value)}"


def remedy_text(document: Document, key: str, value: Any, in_cdk: str) -> str:
    """What a person writes to set a key: a line of the template, or a statement in the program that generates it.

    Args:
        document, key, value: see `line_to_write`.
        in_cdk: the words of the CDK.
    """
    return f"{in_cdk} in CDK" if is_synthesized_by_cdk(document) else line_to_write(document, key, value)


def override_in_cdk(path: KeyPath, value: Any) -> str:
    """The call by which a program of the CDK sets a property that its constructs do not offer.

    Args:
        path: the keys and positions that lead to the property, from the top of the template.
        value: the value, see `line_to_write`.
    """
    inner = ".".join(str(step) for step in path[path.index("Properties") + 1 :])
    if isinstance(value, dict):
        ((function, given),) = value.items()
        name = function.removeprefix("Fn::")
        written = f"Fn.{name[0].lower()}{name[1:]}('{given}')"
    else:
        written = json.dumps(value)
    return f"{_PIPELINE_CONSTRUCT}.addPropertyOverride('{inner}', {written})"


def declaration_remedy(document: Document) -> str:
    """Which of the parameters for the repository a template must declare too; empty if it declares them all."""
    declared = as_mapping(document.fields.get("Parameters"))
    missing = [name for name in REPOSITORY_PARAMETERS if name not in declared]
    if not missing:
        return ""
    names = " and ".join(filter(None, [", ".join(missing[:-1]), missing[-1]]))
    lacks = "" if declared else "it has no parameters, so nothing ties it to its environment: "
    return f"; {lacks}declare {names} (Type: String), to which deployer gives values"
