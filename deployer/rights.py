"""What a branch's template may not name, by the target of its kind of environment: found before AWS sees it.

This is the first of two fences, and the one that explains itself. The second is IAM: CloudFormation works with the
target's service role, which can make roles only under the permissions boundary and pass only its own. What only AWS
can work out (an import, a value in its parameter store, a nested template) passes here and stops there.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from deployer.environments import Kind
from deployer.evaluation_budget import TooComplexError
from deployer.findings import Finding
from deployer.resolving import Resolver
from deployer.targets import Target
from deployer.template import Document
from deployer.template_syntax import TOO_DEEP, measure_json
from deployer.template_values import Path, mapping, plain
from deployer.text_sets import UNKNOWN

# overlapping and of bounded length: an ARN may hide behind the beginning of another, and a text of them is long
_PART = r"[^:\s\"',\\]{0,100}"
_ARN = re.compile(rf"(?=(arn:{_PART}:({_PART}):{_PART}:({_PART}):([^\s\"',;\\]{{0,300}})))")
_ACCOUNT = re.compile(r"\d{12}", re.ASCII)
_SERVICE_ROLES = "aws-service-role/"
_BOUNDED = {"AWS::IAM::Role", "AWS::IAM::User"}
_MAKES_ROLES = {"AWS::Serverless::Function": "Function", "AWS::Serverless::StateMachine": "StateMachine"}
_UNDER_PATHS = {"AWS::IAM::InstanceProfile", "AWS::IAM::ManagedPolicy", "AWS::IAM::Role", *_MAKES_ROLES}
_TAKES_ROLES = {
    "AWS::IAM::InstanceProfile": ("Roles",),
    "AWS::IAM::ManagedPolicy": ("Roles", "Users"),
    "AWS::IAM::Policy": ("Roles", "Users"),
    "AWS::IAM::RolePolicy": ("RoleName",),
    "AWS::IAM::UserPolicy": ("UserName",),
}
_OF_RIGHTS = {*_BOUNDED, *_UNDER_PATHS, *_TAKES_ROLES}
_ARN_STEPS = 4  # of the budget, for each beginning of an ARN and each pattern that it is compared with
_MADE = re.compile(r"[$&]\{")  # what a loop fills in
_KNOWN_TRANSFORMS = {
    "AWS::CodeDeployBlueGreen",
    "AWS::LanguageExtensions",
    "AWS::SecretsManager-2020-07-23",
    "AWS::SecretsManager-2024-09-16",
    "AWS::Serverless-2016-10-31",
}
# what no boundary holds, whatever it says
_ESCAPES = {
    "AWS::CloudFormation::Macro": "it rewrites other templates of the account",
    "AWS::CloudFormation::StackSet": "it makes stacks in other accounts and regions, with other rights",
    "AWS::IAM::AccessKey": "its keys work outside AWS",
    "AWS::IAM::OIDCProvider": "it lets others sign in to the account",
    "AWS::IAM::SAMLProvider": "it lets others sign in to the account",
    "AWS::IAM::ServiceLinkedRole": "its role belongs to the whole account",
    "AWS::Organizations::Account": "it makes accounts",
    "AWS::Organizations::Policy": "it changes the rights of accounts",
}


def rights_findings(
    document: Document,
    kind: Kind,
    stack_name: str,
    values: Mapping[str, str],
    origins: Mapping[str, tuple[str, int | None]],
    resolver: Resolver,
    target: Target,
    given: Mapping[str, str],
) -> Iterator[Finding]:
    """What a template names outside its target.

    For every kind of environment: an ARN, or an account in a policy's `Principal`, of another account than the
    target's. For development, if the target says anything of rights (`Target.bounded`), also:

    - the ARN of a role, or a role's or user's name to attach a policy to, that is not made in this template, does not
      begin with the environment's own name (roles of the stacks that its pipeline deploys do), is no service-linked
      role and is not among `allowed_roles`;
    - a role or user without the target's permissions boundary, or with another one, if the target has one;
    - what no boundary holds: access keys, identity providers, stack sets, macros (also `AWS::Include`: what they put
      into the template is not seen here);
    - as a warning, a nested stack, whose template is not seen here.

    A group is not refused: it gives rights to users alone, and those bear the boundary.

    Args:
        document: the template.
        kind: the kind of environment that it is for.
        stack_name: the name of the stack and pipeline.
        values: what each parameter is given.
        origins: file and line where a parameter's value stands, for those that come from a file.
        resolver: of this template with these values.
        target: of the environment's kind.
        given: what the installation gives to every template; these values may be named wherever they are.

    Raises:
        TooComplexError: a text may come to be hundreds, or the resolver's budget has not enough left.
    """
    looked = _Look(document, kind, stack_name, resolver, target, frozenset(given.values()))
    seen: set[Finding] = set()
    for each in looked.all(values, origins):
        if each not in seen:
            seen.add(each)
            yield each


class _Look:
    def __init__(
        self,
        document: Document,
        kind: Kind,
        stack_name: str,
        resolver: Resolver,
        target: Target,
        given: frozenset[str],
    ) -> None:
        self._document, self._resolver, self._target, self._given = document, resolver, target, given
        self._strict = kind is Kind.DEVELOPMENT and target.bounded
        self._kind = kind
        self._prefix = f"{stack_name}-"
        self._budget = resolver.budget
        self._searched: dict[str, tuple[str, ...]] = {}
        self._policies: dict[str, tuple[str, ...]] = {}
        self._resources = list(resolver.made())
        # a name that it may bear, or may not, could be that of a role of elsewhere
        self._own = {
            texts[0]
            for _, each in self._resources
            if str(each.get("Type")) in _BOUNDED
            and ("Condition" not in each or resolver.conditions.holds(each["Condition"]))
            and len(texts := resolver.name(each)) == 1
            and UNKNOWN not in texts[0]
        }

    def all(
        self, values: Mapping[str, str], origins: Mapping[str, tuple[str, int | None]]
    ) -> Iterator[Finding]:
        """Everything that is to be said; a thing may come twice."""
        yield from self._texts(values, origins)
        if self._strict:
            yield from self._resource_findings()
            yield from self._transforms()

    def _texts(
        self, values: Mapping[str, str], origins: Mapping[str, tuple[str, int | None]]
    ) -> Iterator[Finding]:
        """What any text of the template, or a parameter's value, names."""
        file = self._document.file
        for name, rules in mapping(self._document.fields.get("Parameters")).items():
            default = plain(mapping(rules).get("Default"))
            value = values.get(name, default)
            if value is None:
                continue
            inside = "Default" if name not in values else ""
            line = self._document.nearest_line("Parameters", name, *([inside] if inside else []))
            where = origins.get(name, (file, line))
            with _at_path(("Parameters", name)):
                named = self._named(value)
            yield from (Finding("error", *where, f"{name}: {text}") for text in named)
        parts: list[tuple[Path, Any]] = [*self._resources]
        parts += [
            ((section,), self._document.fields.get(section))
            for section in ("Outputs", "Conditions", "Globals")
        ]
        for path, part in parts:
            for inner, leaf in self._resolver.leaves(part, path):
                with _at_path(inner):
                    problems = self._problems(inner, leaf)
                for problem in problems:
                    yield Finding("error", file, self._document.nearest_line(*inner), problem)

    def _problems(self, path: Path, leaf: Any) -> list[str]:
        """What is wrong with the texts that a leaf of the template may come to be."""
        texts = self._resolver.texts(leaf)
        self._budget.spend(2 * len(texts))
        principal = bool(texts) and self._is_principal(path)
        return [
            problem
            for text in texts
            for problem in (*self._named(text), *self._principal(text, principal=principal))
        ]

    def _named(self, text: str) -> tuple[str, ...]:
        """What is wrong with the ARNs in a text. A text is searched once, wherever it is named again."""
        if text not in self._searched:
            self._budget.spend(1, len(text))
            self._searched[text] = tuple(self._search(text))
        return self._searched[text]

    def _search(self, text: str) -> Iterator[str]:
        if text in self._given or "arn:" not in text:
            return
        self._budget.spend(text.count("arn:") * _ARN_STEPS)
        for found in _ARN.finditer(text):
            arn, service, account, resource = found.groups()
            self._budget.spend(_ARN_STEPS * len(self._target.allowed_roles), len(arn))
            if arn in self._given or self._target.allows(arn):
                continue
            shown = arn.replace(UNKNOWN, "?")[:120]
            if self._foreign(account):
                yield (
                    f"{shown} is of account {account}; {self._kind} is in {self._target.account}"
                    f" ({self._remedy('allow it')})"
                )
            elif self._strict and service == "iam" and resource.startswith("role/") and self._alien(resource):
                yield (
                    f"{shown} is no role of this template; make the role here, name it"
                    f" !Sub ${{PipelineName}}-..., or {self._remedy('have it allowed')}"
                )

    def _remedy(self, words: str) -> str:
        return f"{words} by {self._kind}.allowed_roles in DEPLOYER_TARGETS"

    def _foreign(self, account: str) -> bool:
        return bool(self._target.account and _ACCOUNT.fullmatch(account) and account != self._target.account)

    def _alien(self, resource: str) -> bool:
        path = resource.removeprefix("role/")
        return not path.startswith(_SERVICE_ROLES) and self._alien_name(path.rpartition("/")[2])

    def _alien_name(self, name: str) -> bool:
        return not (name in self._own or name.startswith((self._prefix, UNKNOWN)) or not name)

    def _is_principal(self, path: Path) -> bool:
        """Whether what is at this path says who a policy is for; a key of a loop may come to be several."""
        return "Principal" in path or any(
            "Principal" in self._resolver.texts(step)
            for step in path
            if isinstance(step, str) and _MADE.search(step)
        )

    def _principal(self, text: str, *, principal: bool) -> tuple[str, ...]:
        if principal:
            if self._foreign(text):
                return (f"account {text} is a principal; {self._kind} is in {self._target.account}",)
            return ()
        if "Principal" not in text or text.lstrip()[:1] != "{":
            return ()
        if text not in self._policies:  # a policy may be given as a text
            self._policies[text] = tuple(self._policy(text))
        return self._policies[text]

    def _policy(self, text: str) -> Iterator[str]:
        self._budget.spend(1, len(text))
        if measure_json(text, self._budget):  # it is not left out: whoever nests so deeply may hide something
            raise TooComplexError(f"a policy here is given as a text, and {TOO_DEEP}")
        policy = None
        with suppress(ValueError):
            policy = json.loads(text, parse_int=str)  # `int` refuses thousands of digits
        for path, leaf in self._resolver.leaves(policy):
            yield from self._principal(plain(leaf) or "", principal=self._is_principal(path))

    def _resource_findings(self) -> Iterator[Finding]:
        """What a development template may not make, and roles without their boundary."""
        for path, resource in self._resources:
            kind = str(resource.get("Type"))
            name = path[-1]
            properties = mapping(resource.get("Properties"))
            self._budget.spend(1 + len(properties), 0, resource)
            if not isinstance(resource.get("Type"), str) or _MADE.search(kind):
                text = (
                    f"the Type of {name} is not written out; a development template may not make it in a loop"
                )
                yield self._at("error", text, *path)
                continue
            if kind in _OF_RIGHTS and any(key.startswith("Fn::") or _MADE.search(key) for key in properties):
                text = f"properties of {name} are not written out, and may give any rights; write each by its name"
                yield self._at("error", text, *path, "Properties")
                continue
            if kind in _ESCAPES:
                text = (
                    f"{name} is of type {kind}, which a development template may not have: {_ESCAPES[kind]}"
                )
                yield self._at("error", text, *path, "Type")
            elif kind == "AWS::CloudFormation::Stack":
                text = f"the template of {name} is not looked at; the service role alone bounds what it makes"
                yield self._at("warning", text, *path, "Type")
            if self._target.permissions_boundary:
                yield from self._boundary(path, kind, properties)
            if self._target.role_path:
                yield from self._path(path, kind, properties)
            for key in _TAKES_ROLES.get(kind, ()):
                for text in self._resolver.texts(properties.get(key)):
                    if self._alien_name(text):
                        shown = text.replace(UNKNOWN, "?")[:120]
                        problem = f"{name} gives rights to {shown!r}, which is not made in this template"
                        yield self._at("error", problem, *path, "Properties", key)

    def _boundary(self, path: Path, kind: str, properties: Mapping[str, Any]) -> Iterator[Finding]:
        told = properties.get("PermissionsBoundary")
        if kind in _MAKES_ROLES:
            common = mapping(mapping(self._document.fields.get("Globals")).get(_MAKES_ROLES[kind]))
            if self._has_role(properties, common):
                return
            told = common.get("PermissionsBoundary") if self._resolver.perhaps_nothing(told) else told
        elif kind not in _BOUNDED and told is None:
            return
        remedy = (
            "PermissionsBoundary: !Ref PermissionsBoundary (deployer gives that parameter if it is declared)"
        )
        texts = self._resolver.texts(told) if told is not None else ()
        if not texts or self._resolver.perhaps_nothing(told):
            yield self._at("error", f"{path[-1]} needs {remedy}", *path)
            return
        for text in texts:
            if text != self._target.permissions_boundary:
                shown = text.replace(UNKNOWN, "?")[:120]
                problem = f"{path[-1]} has the boundary {shown}, which is not its target's; write {remedy}"
                yield self._at("error", problem, *path, "Properties", "PermissionsBoundary")
                return

    def _has_role(self, properties: Mapping[str, Any], common: Mapping[str, Any]) -> bool:
        """Whether a function is surely given a role, so that none is made for it."""
        return not self._resolver.perhaps_nothing(properties.get("Role", common.get("Role")))

    def _path(self, path: Path, kind: str, properties: Mapping[str, Any]) -> Iterator[Finding]:
        """IAM tells kinds of environments apart by the paths of their roles."""
        key = "RolePath" if kind in _MAKES_ROLES else "Path"
        common = mapping(mapping(self._document.fields.get("Globals")).get(_MAKES_ROLES.get(kind, "")))
        if kind not in _UNDER_PATHS or (kind in _MAKES_ROLES and self._has_role(properties, common)):
            return
        wanted = self._target.role_path
        told = properties.get(key, common.get(key))
        nothing = self._resolver.perhaps_nothing(told)
        remedy = f"{key}: {wanted.replace(f'/{self._kind}/', '/${Stage}/')}"
        remedy = remedy.replace(": ", ": !Sub ") if "${" in remedy else remedy
        if nothing or any(text != wanted for text in self._resolver.texts(told)):
            where = (*path, "Properties", key) if told is not None else path
            yield self._at("error", f"{path[-1]} needs {remedy}", *where)

    def _transforms(self) -> Iterator[Finding]:
        """Macros: what they make of the template is not seen here."""
        for path, name in self._macros(self._document.fields):
            if name not in _KNOWN_TRANSFORMS:
                text = f"the macro {name} may make anything of this template; a development template may not use it"
                yield self._at("error", text, *path)

    def _at(self, level: str, text: str, *path: str | int) -> Finding:
        return Finding(level, self._document.file, self._document.nearest_line(*path), text)

    def _macros(self, value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
        if isinstance(value, list):
            self._budget.spend(1 + len(value), 0, value)
            for position, inner in enumerate(value):
                yield from self._macros(inner, (*path, position))
        elif isinstance(value, dict):
            self._budget.spend(1 + len(value), 0, value)
            for key, inner in value.items():
                here = (*path, key)
                if key == "Fn::Transform":
                    yield here, plain(mapping(inner).get("Name")) or "?"
                elif key == "Transform" and not path:
                    names = inner if isinstance(inner, list) else [inner]
                    yield from ((here, plain(mapping(each).get("Name") or each) or "?") for each in names)
                else:
                    yield from self._macros(inner, here)


@contextmanager
def _at_path(path: Path) -> Iterator[None]:
    """Name this path in the error if what is done is too much."""
    try:
        yield
    except TooComplexError as error:
        error.path = error.path or path
        raise
