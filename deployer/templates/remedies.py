"""How a remedy is written: as CloudFormation, or as CDK for a template that CDK synthesized.

Nobody edits a synthesized template, because the next synthesis would undo the change.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployer.templates.evaluation.values import KeyPath, as_mapping, as_text

_CDK_METADATA = "AWS::CDK::Metadata"
_CDK_PATH = "aws:cdk:path"  # a resource's metadata, unless switched off
_CDK_BOOTSTRAP = "/cdk-bootstrap/"  # the beginning of the name in the parameter store


def is_synthesized_by_cdk(fields: Mapping[str, Any]) -> bool:
    """Whether CDK synthesized a template: it names CDK's bootstrap stack or has CDK's metadata."""
    version = as_mapping(as_mapping(fields.get("Parameters")).get("BootstrapVersion"))
    if (as_text(version.get("Default")) or "").startswith(_CDK_BOOTSTRAP):
        return True
    return any(
        as_mapping(each).get("Type") == _CDK_METADATA
        or _CDK_PATH in as_mapping(as_mapping(each).get("Metadata"))
        for each in as_mapping(fields.get("Resources")).values()
    )


@dataclass(frozen=True, slots=True)
class Remedies:
    """The texts of remedies for one template.

    Attributes:
        cdk: whether CDK synthesized the template.
    """

    cdk: bool

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Remedies":
        """The remedies for a template."""
        return cls(is_synthesized_by_cdk(fields))

    @property
    def pipeline_name(self) -> str:
        """How a pipeline gets the stack's name."""
        if self.cdk:
            return "pipelineName: new CfnParameter(this, 'PipelineName').valueAsString in CDK"
        return "!Ref PipelineName (or !Ref AWS::StackName)"

    @property
    def boundary(self) -> str:
        """How a role or user gets the permissions boundary."""
        supplied = "deployer supplies that parameter if the template declares it"
        if self.cdk:
            return (
                "its permissions boundary; in CDK, write once for all roles"
                " PermissionsBoundary.of(this).apply(ManagedPolicy.fromManagedPolicyArn(this, 'Boundary',"
                f" new CfnParameter(this, 'PermissionsBoundary').valueAsString)) ({supplied})"
            )
        return f"PermissionsBoundary: !Ref PermissionsBoundary ({supplied})"

    def role_path(self, key: str, text: str) -> str:
        """How a role gets its path.

        Args:
            key: the property.
            text: the path, in which a parameter may be substituted.
        """
        if self.cdk:
            return (
                f"the path {text}; in CDK, write once for all roles Aspects.of(this).add({{visit: (node) =>"
                f" {{ if (node instanceof CfnRole) node.path = {self._value(text)}; }}}})"
            )
        return f"{key}: {self._value(text)}"

    def name(self, key: str, text: str) -> str:
        """How a resource gets a name.

        Args:
            key: the property.
            text: the name, in which parameters are substituted.
        """
        return f"{self.property_name(key)}: {self._value(text)} in CDK" if self.cdk else self._value(text)

    def property_name(self, key: str) -> str:
        """A property as people know it."""
        return key[0].lower() + key[1:] if self.cdk else key

    def pipeline_property(self, path: KeyPath, text: str) -> str:
        """How a property within a pipeline gets a value.

        Args:
            path: the keys and positions that lead to it from the top of the template.
            text: the value, in which parameters are substituted.
        """
        if not self.cdk:
            return self._value(text)
        inside = ".".join(map(str, path[path.index("Properties") + 1 :])) if "Properties" in path else ""
        return f"in CDK, addPropertyOverride('{inside}', {self._value(text)}) on its CfnPipeline"

    def _value(self, text: str) -> str:
        if "${" not in text:
            return f"'{text}'" if self.cdk else text
        return f"Fn.sub('{text}')" if self.cdk else f"!Sub {text}"
