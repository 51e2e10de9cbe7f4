"""Remedies for names and permissions, in the words of CloudFormation or of CDK.

Nobody edits a template that CDK synthesized, because the next synthesis would undo the change.
"""

import json
from dataclasses import dataclass

from deployer.templates.document import Document
from deployer.templates.evaluation.values import KeyPath
from deployer.templates.pipeline.remedies import is_synthesized_by_cdk, override_in_cdk


@dataclass(frozen=True, slots=True)
class Remedies:
    """The texts of remedies for one template.

    Attributes:
        cdk: whether CDK synthesized the template.
        json: whether the template is JSON.
    """

    cdk: bool
    json: bool

    @classmethod
    def of(cls, document: Document) -> "Remedies":
        """The remedies for a template."""
        return cls(is_synthesized_by_cdk(document), document.file.endswith(".json"))

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

    @property
    def own_role(self) -> str:
        """How a template names a role that it creates itself, whatever name AWS gives to the role."""
        if self.cdk:
            return "in CDK, create it in this stack (new Role) and use its roleArn"
        return "create the role here and refer to it by !GetAtt"

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
        return f"{override_in_cdk(path, {'Fn::Sub': text})} in CDK"

    def _value(self, text: str) -> str:
        if "${" not in text:
            return f"'{text}'" if self.cdk else text
        if self.cdk:
            return f"Fn.sub('{text}')"
        return json.dumps({"Fn::Sub": text}) if self.json else f"!Sub {text}"
