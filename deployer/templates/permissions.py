"""Permission rules for a branch's template, checked before AWS receives it.

The target of the environment's kind sets the rules. This check is the first of two barriers, and the one that explains
its refusals. The second barrier is IAM: CloudFormation works with the target's service role, which can create roles
only under the permissions boundary and can pass only those roles. What only AWS can evaluate (an import, a value in its
parameter store, a nested template) passes this check, and IAM stops it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from deployer.model.environments import Kind
from deployer.model.targets import Target
from deployer.templates.document import Document
from deployer.templates.evaluation.budget import TooComplexError
from deployer.templates.evaluation.evaluator import TemplateEvaluator
from deployer.templates.evaluation.text_sets import UNKNOWN
from deployer.templates.evaluation.values import KeyPath, as_mapping, as_text
from deployer.templates.findings import Finding
from deployer.templates.syntax import TOO_DEEP, spend_for_json

# Matches overlap and have a bounded length, because the beginning of one ARN may hide another, and a text of many ARNs
# is long.
_ARN_PART = r"[^:\s\"',\\]{0,100}"
_ARN = re.compile(rf"(?=(arn:{_ARN_PART}:({_ARN_PART}):{_ARN_PART}:({_ARN_PART}):([^\s\"',;\\]{{0,300}})))")
_ACCOUNT = re.compile(r"\d{12}", re.ASCII)
_SERVICE_LINKED_PATH = "aws-service-role/"
_TYPES_WITH_BOUNDARY = {"AWS::IAM::Role", "AWS::IAM::User"}
_SAM_TYPES_WITH_ROLE = {
    "AWS::Serverless::Function": "Function",
    "AWS::Serverless::StateMachine": "StateMachine",
}
_TYPES_WITH_PATH = {
    "AWS::IAM::InstanceProfile",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Role",
    *_SAM_TYPES_WITH_ROLE,
}
_ROLE_NAME_PROPERTIES = {
    "AWS::IAM::InstanceProfile": ("Roles",),
    "AWS::IAM::ManagedPolicy": ("Roles", "Users"),
    "AWS::IAM::Policy": ("Roles", "Users"),
    "AWS::IAM::RolePolicy": ("RoleName",),
    "AWS::IAM::UserPolicy": ("UserName",),
}
_TYPES_OF_PERMISSIONS = {*_TYPES_WITH_BOUNDARY, *_TYPES_WITH_PATH, *_ROLE_NAME_PROPERTIES}
_STEPS_PER_ARN = 4  # for each beginning of an ARN, and for each pattern that an ARN is compared with
_LOOP_VARIABLE = re.compile(r"[$&]\{")  # a variable that a loop replaces
_KNOWN_TRANSFORMS = {
    "AWS::CodeDeployBlueGreen",
    "AWS::LanguageExtensions",
    "AWS::SecretsManager-2020-07-23",
    "AWS::SecretsManager-2024-09-16",
    "AWS::Serverless-2016-10-31",
}
# types that no permissions boundary can restrict
_FORBIDDEN_TYPES = {
    "AWS::CloudFormation::Macro": "it changes other templates of the account",
    "AWS::CloudFormation::StackSet": "it creates stacks in other accounts and regions, with other permissions",
    "AWS::IAM::AccessKey": "its keys work outside AWS",
    "AWS::IAM::OIDCProvider": "it lets others sign in to the account",
    "AWS::IAM::SAMLProvider": "it lets others sign in to the account",
    "AWS::IAM::ServiceLinkedRole": "its role belongs to the whole account",
    "AWS::Organizations::Account": "it creates accounts",
    "AWS::Organizations::Policy": "it changes the permissions of accounts",
}


def permission_findings(
    document: Document,
    kind: Kind,
    stack_name: str,
    values: Mapping[str, str],
    origins: Mapping[str, tuple[str, int | None]],
    evaluator: TemplateEvaluator,
    target: Target,
    given: Mapping[str, str],
) -> Iterator[Finding]:
    """Everything in a template that its target does not permit.

    For every kind of environment this is an ARN of another account than the target's, or such an account in a policy's
    `Principal`. For development, if the target restricts permissions (`Target.bounded`), it is also:

    - the ARN of a role, or the name of a role or user to which a policy is attached, unless this template creates it,
      its name begins with the environment's own name (as for roles of the stacks that the pipeline deploys), it is a
      service-linked role, or it matches `allowed_roles`;
    - a role or user without the target's permissions boundary, or with another one, if the target has a boundary;
    - a resource that no boundary restricts: access keys, identity providers, stack sets, macros (also `AWS::Include`,
      because this check does not see what a macro adds to the template);
    - as a warning, a nested stack, because this check does not see its template.

    A group is permitted: it gives permissions only to users, and every user has the boundary.

    Args:
        document: the template.
        kind: the kind of the environment.
        stack_name: the name of the stack and of the pipeline.
        values: the value of each parameter.
        origins: file and line of each parameter value that comes from a file.
        evaluator: evaluates this template with these values.
        target: the target of the environment's kind.
        given: the parameters that the installation supplies to every template; their values are always permitted.

    Raises:
        TooComplexError: a value has too many possible texts, or the evaluator's budget is not sufficient.
    """
    check = _PermissionCheck(document, kind, stack_name, evaluator, target, frozenset(given.values()))
    seen: set[Finding] = set()
    for each in check.all_findings(values, origins):
        if each not in seen:
            seen.add(each)
            yield each


class _PermissionCheck:
    def __init__(
        self,
        document: Document,
        kind: Kind,
        stack_name: str,
        evaluator: TemplateEvaluator,
        target: Target,
        given: frozenset[str],
    ) -> None:
        self._document, self._evaluator = document, evaluator
        self._target, self._installation_values = target, given
        self._checks_permissions = kind is Kind.DEVELOPMENT and target.bounded
        self._environment_kind = kind
        self._own_prefix = f"{stack_name}-"
        self._budget = evaluator.budget
        self._problems_by_text: dict[str, tuple[str, ...]] = {}
        self._problems_by_policy: dict[str, tuple[str, ...]] = {}
        self._resources = list(evaluator.possible_resources())
        # Only certain names count: a name that the resource may or may not have could belong to a role elsewhere.
        self._own_role_names = {
            texts[0]
            for _, each in self._resources
            if str(each.get("Type")) in _TYPES_WITH_BOUNDARY
            and ("Condition" not in each or evaluator.conditions.truth_of(each["Condition"]))
            and len(texts := evaluator.resource_names(each)) == 1
            and UNKNOWN not in texts[0]
        }

    def all_findings(
        self, values: Mapping[str, str], origins: Mapping[str, tuple[str, int | None]]
    ) -> Iterator[Finding]:
        """All findings. The same finding may occur twice."""
        yield from self._text_findings(values, origins)
        if self._checks_permissions:
            yield from self._resource_findings()
            yield from self._macro_findings()

    def _text_findings(
        self, values: Mapping[str, str], origins: Mapping[str, tuple[str, int | None]]
    ) -> Iterator[Finding]:
        """Findings in every text of the template and in the values of its parameters."""
        file = self._document.file
        for name, rules in as_mapping(self._document.fields.get("Parameters")).items():
            default = as_text(as_mapping(rules).get("Default"))
            value = values.get(name, default)
            if value is None:
                continue
            inside = "Default" if name not in values else ""
            line = self._document.nearest_line("Parameters", name, *([inside] if inside else []))
            where = origins.get(name, (file, line))
            with _add_path_to_error(("Parameters", name)):
                named = self._arn_problems(value)
            yield from (Finding("error", *where, f"{name}: {text}") for text in named)
        parts: list[tuple[KeyPath, Any]] = [*self._resources]
        parts += [
            ((section,), self._document.fields.get(section))
            for section in ("Outputs", "Conditions", "Globals")
        ]
        for path, part in parts:
            for inner, leaf in self._evaluator.text_leaves(part, path):
                with _add_path_to_error(inner):
                    problems = self._leaf_problems(inner, leaf)
                for problem in problems:
                    yield Finding("error", file, self._document.nearest_line(*inner), problem)

    def _leaf_problems(self, path: KeyPath, leaf: Any) -> list[str]:
        """Problems in the texts that a leaf of the template may have."""
        texts = self._evaluator.possible_texts(leaf)
        self._budget.spend(2 * len(texts))
        principal = bool(texts) and self._is_principal(path)
        return [
            problem
            for text in texts
            for problem in (*self._arn_problems(text), *self._principal_problems(text, principal=principal))
        ]

    def _arn_problems(self, text: str) -> tuple[str, ...]:
        """Problems with the ARNs in a text. Each text is searched only once."""
        if text not in self._problems_by_text:
            self._budget.spend(1, len(text))
            self._problems_by_text[text] = tuple(self._find_arn_problems(text))
        return self._problems_by_text[text]

    def _find_arn_problems(self, text: str) -> Iterator[str]:
        if text in self._installation_values or "arn:" not in text:
            return
        self._budget.spend(text.count("arn:") * _STEPS_PER_ARN)
        for found in _ARN.finditer(text):
            arn, service, account, resource = found.groups()
            self._budget.spend(_STEPS_PER_ARN * len(self._target.allowed_roles), len(arn))
            if arn in self._installation_values or self._target.allows(arn):
                continue
            shown = arn.replace(UNKNOWN, "?")[:120]
            if self._is_foreign_account(account):
                yield (
                    f"{shown} is of account {account}; {self._environment_kind} is in {self._target.account}"
                    f" ({self._allow_remedy('allow it')})"
                )
            elif (
                self._checks_permissions
                and service == "iam"
                and resource.startswith("role/")
                and self._is_foreign_role(resource)
            ):
                yield (
                    f"{shown} is not a role of this template; create the role here, name it"
                    f" !Sub ${{PipelineName}}-..., or {self._allow_remedy('allow it')}"
                )

    def _allow_remedy(self, words: str) -> str:
        return f"{words} by {self._environment_kind}.allowed_roles in DEPLOYER_TARGETS"

    def _is_foreign_account(self, account: str) -> bool:
        return bool(self._target.account and _ACCOUNT.fullmatch(account) and account != self._target.account)

    def _is_foreign_role(self, resource: str) -> bool:
        path = resource.removeprefix("role/")
        return not path.startswith(_SERVICE_LINKED_PATH) and self._is_foreign_role_name(
            path.rpartition("/")[2]
        )

    def _is_foreign_role_name(self, name: str) -> bool:
        return not (name in self._own_role_names or name.startswith((self._own_prefix, UNKNOWN)) or not name)

    def _is_principal(self, path: KeyPath) -> bool:
        """Whether the value at this path is a policy's principal. A key with a loop variable may have several texts."""
        return "Principal" in path or any(
            "Principal" in self._evaluator.possible_texts(step)
            for step in path
            if isinstance(step, str) and _LOOP_VARIABLE.search(step)
        )

    def _principal_problems(self, text: str, *, principal: bool) -> tuple[str, ...]:
        if principal:
            if self._is_foreign_account(text):
                return (
                    f"account {text} is a principal; {self._environment_kind} is in {self._target.account}",
                )
            return ()
        if "Principal" not in text or text.lstrip()[:1] != "{":
            return ()
        if text not in self._problems_by_policy:  # a policy may be written as one JSON text
            self._problems_by_policy[text] = tuple(self._policy_problems(text))
        return self._problems_by_policy[text]

    def _policy_problems(self, text: str) -> Iterator[str]:
        self._budget.spend(1, len(text))
        if spend_for_json(text, self._budget):  # it is an error, because such deep nesting may hide something
            raise TooComplexError(f"a policy here is written as a text, and {TOO_DEEP}")
        policy = None
        with suppress(ValueError):
            policy = json.loads(text, parse_int=str)  # `int` refuses thousands of digits
        for path, leaf in self._evaluator.text_leaves(policy):
            yield from self._principal_problems(as_text(leaf) or "", principal=self._is_principal(path))

    def _resource_findings(self) -> Iterator[Finding]:
        """Resources that a development template may not create, and roles without their boundary or path."""
        for path, resource in self._resources:
            kind = str(resource.get("Type"))
            name = path[-1]
            properties = as_mapping(resource.get("Properties"))
            self._budget.spend(1 + len(properties), 0, resource)
            if not isinstance(resource.get("Type"), str) or _LOOP_VARIABLE.search(kind):
                text = f"the Type of {name} is generated; write it out: a development template may not loop over it"
                yield self._finding_at("error", text, *path)
                continue
            if kind in _TYPES_OF_PERMISSIONS and any(
                key.startswith("Fn::") or _LOOP_VARIABLE.search(key) for key in properties
            ):
                text = f"properties of {name} are generated and may give any permission; write out the name of each one"
                yield self._finding_at("error", text, *path, "Properties")
                continue
            if kind in _FORBIDDEN_TYPES:
                text = f"{name} is of type {kind}, which a development template may not have: {_FORBIDDEN_TYPES[kind]}"
                yield self._finding_at("error", text, *path, "Type")
            elif kind == "AWS::CloudFormation::Stack":
                text = f"the template of {name} is not checked; only the service role limits what it creates"
                yield self._finding_at("warning", text, *path, "Type")
            if self._target.permissions_boundary:
                yield from self._boundary_findings(path, kind, properties)
            if self._target.role_path:
                yield from self._path_findings(path, kind, properties)
            for key in _ROLE_NAME_PROPERTIES.get(kind, ()):
                for text in self._evaluator.possible_texts(properties.get(key)):
                    if self._is_foreign_role_name(text):
                        shown = text.replace(UNKNOWN, "?")[:120]
                        problem = (
                            f"{name} gives permissions to {shown!r}, which this template does not create"
                        )
                        yield self._finding_at("error", problem, *path, "Properties", key)

    def _boundary_findings(
        self, path: KeyPath, kind: str, properties: Mapping[str, Any]
    ) -> Iterator[Finding]:
        given = properties.get("PermissionsBoundary")
        if kind in _SAM_TYPES_WITH_ROLE:
            common = as_mapping(
                as_mapping(self._document.fields.get("Globals")).get(_SAM_TYPES_WITH_ROLE[kind])
            )
            if self._has_role(properties, common):
                return
            given = common.get("PermissionsBoundary") if self._evaluator.may_be_omitted(given) else given
        elif kind not in _TYPES_WITH_BOUNDARY and given is None:
            return
        remedy = (
            "PermissionsBoundary: !Ref PermissionsBoundary"
            " (deployer supplies that parameter if the template declares it)"
        )
        texts = self._evaluator.possible_texts(given) if given is not None else ()
        if not texts or self._evaluator.may_be_omitted(given):
            yield self._finding_at("error", f"{path[-1]} needs {remedy}", *path)
            return
        for text in texts:
            if text != self._target.permissions_boundary:
                shown = text.replace(UNKNOWN, "?")[:120]
                problem = (
                    f"{path[-1]} has the boundary {shown}, but its target has another one; write {remedy}"
                )
                yield self._finding_at("error", problem, *path, "Properties", "PermissionsBoundary")
                return

    def _has_role(self, properties: Mapping[str, Any], common: Mapping[str, Any]) -> bool:
        """Whether a function certainly has a role of its own, so that SAM creates no role for it."""
        return not self._evaluator.may_be_omitted(properties.get("Role", common.get("Role")))

    def _path_findings(self, path: KeyPath, kind: str, properties: Mapping[str, Any]) -> Iterator[Finding]:
        """Findings about IAM paths: IAM distinguishes the kinds of environment by the paths of their roles."""
        key = "RolePath" if kind in _SAM_TYPES_WITH_ROLE else "Path"
        common = as_mapping(
            as_mapping(self._document.fields.get("Globals")).get(_SAM_TYPES_WITH_ROLE.get(kind, ""))
        )
        if kind not in _TYPES_WITH_PATH or (
            kind in _SAM_TYPES_WITH_ROLE and self._has_role(properties, common)
        ):
            return
        required = self._target.role_path
        given = properties.get(key, common.get(key))
        nothing = self._evaluator.may_be_omitted(given)
        remedy = f"{key}: {required.replace(f'/{self._environment_kind}/', '/${Stage}/')}"
        remedy = remedy.replace(": ", ": !Sub ") if "${" in remedy else remedy
        if nothing or any(text != required for text in self._evaluator.possible_texts(given)):
            where = (*path, "Properties", key) if given is not None else path
            yield self._finding_at("error", f"{path[-1]} needs {remedy}", *where)

    def _macro_findings(self) -> Iterator[Finding]:
        """Findings about macros, because this check does not see how a macro changes the template."""
        for path, name in self._find_macros(self._document.fields):
            if name not in _KNOWN_TRANSFORMS:
                text = f"the macro {name} can change anything in this template; a development template may not use it"
                yield self._finding_at("error", text, *path)

    def _finding_at(self, level: str, text: str, *path: str | int) -> Finding:
        return Finding(level, self._document.file, self._document.nearest_line(*path), text)

    def _find_macros(self, value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
        if isinstance(value, list):
            self._budget.spend(1 + len(value), 0, value)
            for position, inner in enumerate(value):
                yield from self._find_macros(inner, (*path, position))
        elif isinstance(value, dict):
            self._budget.spend(1 + len(value), 0, value)
            for key, inner in value.items():
                here = (*path, key)
                if key == "Fn::Transform":
                    yield here, as_text(as_mapping(inner).get("Name")) or "?"
                elif key == "Transform" and not path:
                    names = inner if isinstance(inner, list) else [inner]
                    yield from (
                        (here, as_text(as_mapping(each).get("Name") or each) or "?") for each in names
                    )
                else:
                    yield from self._find_macros(inner, here)


@contextmanager
def _add_path_to_error(path: KeyPath) -> Iterator[None]:
    """Add this path to a TooComplexError that has none yet."""
    try:
        yield
    except TooComplexError as error:
        error.path = error.path or path
        raise
