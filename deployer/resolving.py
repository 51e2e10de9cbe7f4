"""What the texts of a template come to be, as far as it can be told before AWS is asked.

CloudFormation's functions are worked out over the values that will be given. What only AWS knows (an attribute of a
resource, an import, a parameter in its parameter store) stands in a text as `UNKNOWN`. All work is taken from an
`EvaluationBudget` before it is done.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from deployer.conditions import Conditions
from deployer.evaluation_budget import EvaluationBudget, TooComplexError
from deployer.resource_names import NAMES
from deployer.template_values import Path, mapping, plain
from deployer.text_sets import UNKNOWN, combined, few

SECRET_PARAMETER = "RepoToken"  # noqa: S105  the parameter's name
_VARIABLE = re.compile(r"\$\{(!?)([^{}]*)\}")
_LOOPED = re.compile(r"[$&]\{([^{}]*)\}")  # in loops a variable stands in any text, also without Fn::Sub
# what they are made of says little
_WHOLE = {"Ref", "Fn::GetAtt", "Fn::Sub", "Fn::Join", "Fn::FindInMap", "Fn::Select", "Fn::Split"}
# types whose attribute is the property of the same name; an attribute of another type may be anything
_ATTRIBUTES = {
    ("AWS::SNS::Topic", "TopicName"),
    ("AWS::SQS::Queue", "QueueName"),
    ("AWS::SSM::Parameter", "Value"),
}
_DYNAMIC = re.compile(r"\{\{resolve:[^{}]*\}\}")


class Resolver:
    """Works values of one template out.

    Args:
        fields: the template.
        values: what each parameter will be given; its default counts where there is none.
        pseudo: of the parameters that AWS gives, such as `AWS::AccountId`, those that are known.
        budget: what all of its work is taken from; by default one of its own.

    Raises:
        TooComplexError: by every method, too: the budget has not enough left, or an expression leads too deep.
    """

    def __init__(
        self,
        fields: Mapping[str, Any],
        values: Mapping[str, str],
        pseudo: Mapping[str, str],
        budget: EvaluationBudget | None = None,
    ) -> None:
        self.budget = budget or EvaluationBudget()
        self._resources = mapping(fields.get("Resources"))
        self.conditions = Conditions(mapping(fields.get("Conditions")), self._exact_texts, self.budget)
        self._mappings = mapping(fields.get("Mappings"))
        self._values: dict[str, tuple[str, ...]] = {name: (value,) for name, value in pseudo.items()}
        self._values["AWS::NoValue"] = ()
        self._lists: set[str] = set()
        self._loops: set[str] = set()
        self._named: dict[str, tuple[str, ...]] = {}
        self._exact = False  # whether two texts are to be compared, so that each must be what AWS has
        self._unsure: set[str] = set()  # parameters whose text AWS may spell otherwise
        for name, rules in mapping(fields.get("Parameters")).items():
            kind = str(mapping(rules).get("Type", ""))
            value = values.get(name, plain(mapping(rules).get("Default")))
            # a value may be the name under which AWS's parameter store holds the true one
            hidden = value is None or kind.startswith("AWS::SSM::Parameter::Value")
            hidden = hidden or name == SECRET_PARAMETER  # AWS is given the token, whatever the default is
            self._values[name] = (UNKNOWN if hidden or value is None else value,)
            if name not in values and type(mapping(rules).get("Default")) is not str:
                self._unsure.add(name)
            if kind.startswith("List<") or kind == "CommaDelimitedList":
                self._lists.add(name)
                self.budget.spend(self._values[name][0].count(",") + 1, len(self._values[name][0]), rules)
                self._values[name] = tuple(each.strip() for each in self._values[name][0].split(","))
        self._learn_loops(dict(fields))

    def texts(self, value: Any) -> tuple[str, ...]:
        """Every text that a value may come to be; none for what is no text.

        Raises:
            TooManyError: there are hundreds, or one is very long.
        """
        if isinstance(value, (dict, list)):
            with self.budget.evaluating(value):
                if isinstance(value, dict):
                    return self._call(value)
                return few((text for item in value for text in self.texts(item)), self.budget)
        text = plain(value)
        if text is None:
            return ()
        self.budget.spend(1, len(text))
        if self._misspelt(value):  # a number, or `yes`: only AWS knows how it writes it
            return (UNKNOWN,)
        return self._looped(_DYNAMIC.sub(UNKNOWN, text) if "{{" in text else text)

    def perhaps_nothing(self, value: Any) -> bool:
        """Whether a property of this value may be left out: it is not given, or may come to be `AWS::NoValue`."""
        self.budget.spend()
        if isinstance(value, dict) and len(value) == 1:
            ((name, given),) = value.items()
            if name == "Ref":
                return "AWS::NoValue" in self._looped(plain(given) or "")
            if name == "Fn::If" and isinstance(given, list) and len(given) == 3:
                return any(map(self.perhaps_nothing, self._branches(given)))
        return value is None

    def made(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Path and content of each resource that is not known to be left out by its condition; also within loops."""
        for name, resource in self._resources.items():
            yield from self._made(("Resources", name), resource)

    def name(self, resource: Mapping[str, Any]) -> tuple[str, ...]:
        """The names that a resource is given by its template; none if AWS chooses it."""
        key = NAMES.get(plain(resource.get("Type")) or "")
        return self.texts(mapping(resource.get("Properties")).get(key)) if key else ()

    def leaves(self, value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
        """Path and value of each text within a value, and of each function that makes one."""
        left = [(path, value)]
        while left:
            path, value = left.pop()
            try:
                self.budget.spend(2 + len(path) // 8)
            except TooComplexError as error:
                error.path = path
                raise
            if isinstance(value, list):
                inner: list[tuple[Path, Any]] = [((*path, at), each) for at, each in enumerate(value)]
            elif isinstance(value, dict):
                name = next(iter(value)) if len(value) == 1 else ""
                if name == "Fn::If" and isinstance(value[name], list) and len(value[name]) == 3:
                    branches = self._branch_positions(value[name])
                    inner = [((*path, name, at), value[name][at]) for at in branches]
                elif name in _WHOLE:
                    yield path, value
                    continue
                else:
                    inner = [((*path, key), each) for key, each in value.items()]
            else:
                if value is not None:
                    yield path, value
                continue
            left += reversed(inner)

    def _made(self, path: Path, resource: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
        self.budget.spend(1, 0, resource)
        if isinstance(resource, list):  # Fn::ForEach: a variable, its values, and the resources
            for position, part in enumerate(resource):
                for name, inner in mapping(part).items():
                    yield from self._made((*path, position, name), inner)
        elif isinstance(resource, dict) and self.conditions.holds(resource.get("Condition")) is not False:
            yield path, resource

    def _learn_loops(self, value: dict[str, Any] | list[Any]) -> None:
        self.budget.spend(1 + len(value), 0, value)
        if isinstance(value, list):
            for item in value:
                if isinstance(item, (dict, list)):
                    self._learn_loops(item)
        else:
            for key, inner in value.items():
                if str(key).startswith("Fn::ForEach::") and isinstance(inner, list) and len(inner) == 3:
                    items = [each for listed in self._items(inner[1]) for each in listed]
                    known = tuple(text for item in items for text in self.texts(item)) or (UNKNOWN,)
                    # several loops may have one variable, and what only looks like a loop that of a parameter
                    name = plain(inner[0]) or ""
                    before = self._values.get(name, ())
                    self.budget.spend(len(before) + len(known), 0, inner)
                    self._values[name] = tuple(dict.fromkeys((*before, *known)))
                    self._loops.add(name)
                if isinstance(inner, (dict, list)):
                    self._learn_loops(inner)

    def _call(self, value: dict[str, Any]) -> tuple[str, ...]:
        if len(value) != 1:
            return ()
        ((name, given),) = value.items()
        match name:
            case "Ref":
                return few(
                    (text for each in self._looped(plain(given) or "") for text in self._ref(each)),
                    self.budget,
                )
            case "Fn::GetAtt" if isinstance(given, str) and "." in given:
                return self._attribute(*given.split(".", 1))
            case "Fn::GetAtt" if isinstance(given, list) and len(given) == 2:
                names, attribute = self._looped(plain(given[0]) or ""), plain(given[1]) or ""
                return few((text for each in names for text in self._attribute(each, attribute)), self.budget)
            case "Fn::Split" if isinstance(given, list) and len(given) == 2:
                return few((text for items in self._items(value) for text in self.texts(items)), self.budget)
            case "Fn::Sub":
                return self._sub(given)
            case "Fn::Join" if isinstance(given, list) and len(given) == 2:
                return self._join(given[0], given[1])
            case "Fn::If" if isinstance(given, list) and len(given) == 3:
                return few((text for each in self._branches(given) for text in self.texts(each)), self.budget)
            case "Fn::FindInMap" if isinstance(given, list) and len(given) >= 3:
                return few(
                    (text for each in self._found(given) for text in self.texts(each)), self.budget
                ) or (UNKNOWN,)
            case "Fn::Select" if isinstance(given, list) and len(given) == 2:
                return self._select(given[0], given[1])
            case _ if name.startswith("Fn::"):
                return (UNKNOWN,)
        return ()

    def _looped(self, text: str) -> tuple[str, ...]:
        """A text with each value of the variables of loops in it."""
        if not self._loops or not ("${" in text or "&{" in text):
            return (text,)
        self.budget.spend(text.count("{"), len(text))
        parts: list[tuple[str, ...]] = []
        end = 0
        for found in _LOOPED.finditer(text):
            if found.group(1) in self._loops:
                if self._exact:  # a condition is in no loop, whatever the template has elsewhere
                    return (UNKNOWN,)
                parts += [(text[end : found.start()],), self._values[found.group(1)]]
                end = found.end()
        return combined([*parts, (text[end:],)], self.budget) if parts else (text,)

    def _ref(self, name: str) -> tuple[str, ...]:
        if self._exact and (name not in self._values or name in self._unsure or name in self._loops):
            return (UNKNOWN,)
        if name in self._values:
            return self._values[name]
        if name not in self._named:
            self._named[name] = (UNKNOWN,)  # also what a name made of itself comes to
            resource = mapping(self._resources.get(name))
            self._named[name] = self.name(resource) or (UNKNOWN,)
        return self._named[name]

    def _attribute(self, name: str, attribute: str) -> tuple[str, ...]:
        """An attribute is known where it is a property that the template gives: see `_ATTRIBUTES`."""
        if self._exact:
            return (UNKNOWN,)
        key = f"{name}.{attribute}"
        if key not in self._named:
            self._named[key] = (UNKNOWN,)
            resource = mapping(self._resources.get(name))
            if (plain(resource.get("Type")), attribute) in _ATTRIBUTES:
                properties = mapping(resource.get("Properties"))
                self._named[key] = self.texts(properties.get(attribute)) or (UNKNOWN,)
        return self._named[key]

    def _sub(self, given: Any) -> tuple[str, ...]:
        text, own = given, dict[str, Any]()
        if isinstance(given, list) and len(given) == 2:
            text, own = given[0], mapping(given[1])
        if not isinstance(text, str) or self._misspelt(text):
            return (UNKNOWN,)
        return few((made for each in self._looped(text) for made in self._filled(each, own)), self.budget)

    def _filled(self, text: str, own: Mapping[str, Any]) -> tuple[str, ...]:
        """What a text of Fn::Sub comes to be."""
        parts: list[tuple[str, ...]] = []
        end = 0
        self.budget.spend(text.count("{"), len(text))
        for found in _VARIABLE.finditer(text):
            parts.append(self.texts(text[end : found.start()]))
            end = found.end()
            literal, name = found.group(1), found.group(2).strip()
            if literal:
                parts.append((f"${{{name}}}",))
            elif name in own:
                parts.append(self.texts(own[name]))
            else:
                resource, dot, attribute = name.partition(".")
                parts.append(self._attribute(resource, attribute) if dot else self._ref(name))
        parts.append(self.texts(text[end:]))
        return combined(parts, self.budget)

    def _join(self, separator: Any, items: Any) -> tuple[str, ...]:
        between = UNKNOWN if self._misspelt(separator) else plain(separator) or ""
        found: list[str] = []
        for each in self._items(items):
            parts: list[tuple[str, ...]] = []
            for item in each:
                if texts := self.texts(item):  # AWS::NoValue is no item
                    parts += [(between,), texts] if parts else [texts]
            found += combined(parts, self.budget)
        return few(found, self.budget)

    def _select(self, index: Any, items: Any) -> tuple[str, ...]:
        texts = (str(index),) if type(index) is int else self.texts(index)
        numbers = [int(each) for each in texts if each.isdecimal() and len(each) < 6]
        lists = self._items(items)
        self.budget.spend(len(numbers) * len(lists))
        chosen = [each[n] for each in lists for n in numbers if n < len(each)]
        return few((text for each in chosen for text in self.texts(each)), self.budget) or (UNKNOWN,)

    def _found(self, given: list[Any]) -> list[Any]:
        """What a mapping may hold at its two keys."""
        level: list[Any] = [self._mappings]
        for step, key in enumerate(given[:3]):
            names = self.texts(key)
            if any(UNKNOWN in name for name in names):
                self.budget.spend(sum(map(len, level)))
                level = [inner for each in level for inner in each.values()]
            else:
                self.budget.spend(len(level) * len(names))
                level = [each[name] for each in level for name in names if name in each]
            if step < 2:
                level = [each for each in level if isinstance(each, dict)]
        default = [mapping(each)["DefaultValue"] for each in given[3:] if "DefaultValue" in mapping(each)]
        return [*level, *default]

    def _items(self, value: Any) -> list[list[Any]]:
        """The lists that a value may come to be."""
        self.budget.spend()
        if isinstance(value, list):
            return [value]
        if isinstance(value, dict) and len(value) == 1:
            ((name, given),) = value.items()
            if name == "Ref" and isinstance(given, str) and given in self._lists:
                if self._exact and (given in self._unsure or given in self._loops):
                    return [[UNKNOWN]]
                self.budget.spend(len(self._values[given]))
                return [list(self._values[given])]
            if name == "Fn::If" and isinstance(given, list) and len(given) == 3:
                return [items for each in self._branches(given) for items in self._items(each)]
            if name == "Fn::Split" and isinstance(given, list) and len(given) == 2:
                separator, texts = plain(given[0]), self.texts(given[1])
                if self._misspelt(given[0]) or (self._exact and any(UNKNOWN in text for text in texts)):
                    return [[UNKNOWN]]  # what is not known may hold the separator
                if not separator:
                    return [[text] for text in texts]
                self.budget.spend(sum(text.count(separator) + 1 for text in texts), sum(map(len, texts)))
                return [text.split(separator) for text in texts]
            if name == "Fn::FindInMap" and isinstance(given, list) and len(given) >= 3:
                return [each if isinstance(each, list) else [each] for each in self._found(given)]
        return [[UNKNOWN]]

    def _branches(self, given: list[Any]) -> list[Any]:
        return [given[position] for position in self._branch_positions(given)]

    def _branch_positions(self, given: list[Any]) -> tuple[int, ...]:
        held = self.conditions.holds(given[0])
        return (1, 2) if held is None else (1,) if held else (2,)

    def _exact_texts(self, value: Any) -> tuple[str, ...]:
        """The same as `texts`, where each must be what AWS has: two of them are to be compared."""
        before, self._exact = self._exact, True
        try:
            return self.texts(value)
        finally:
            self._exact = before

    def _misspelt(self, value: Any) -> bool:
        """Whether AWS may write a literal otherwise, where that counts."""
        return self._exact and type(value) is not str
