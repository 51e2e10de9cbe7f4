"""Typed values that are stored as JSON and keep the fields of other versions.

Two adjacent releases can run side by side. The older one must not drop what the newer one has written, so each value
keeps the fields that its version does not know, and writes them back.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any, ClassVar, Self, get_args, get_origin

import msgspec

from deployer.model import errors

_UNKNOWN = "*unknown"  # the field's name while a value is read; it is never stored


def replace_surrogates(text: str) -> str:
    """Text without lone surrogates, which JSON from other programs may contain and UTF-8 may not."""
    return text.encode("utf-8", "replace").decode()


class StoredValue(
    msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True, forbid_unknown_fields=True
):
    """A value with a JSON form.

    msgspec itself may not drop unknown fields: `from_json` moves them to `unknown`.

    Attributes:
        unknown: the fields that this version does not know, as another version has written them.
    """

    flat: ClassVar[bool] = False
    """Whether the JSON object has the fields of the value's groups beside its own fields."""

    unknown: dict[str, object] = msgspec.field(name=_UNKNOWN, default_factory=dict)

    def but(self, **changes: Any) -> Self:
        """A copy with some fields changed, which may be fields of its groups: no two fields have the same name.

        Raises:
            TypeError: there is no such field.
        """
        own: dict[str, Any] = {}
        in_groups: dict[str, dict[str, Any]] = {}
        places = field_groups(type(self))
        for name, value in changes.items():
            if name not in places:
                raise TypeError(f"{type(self).__name__} has no field {name!r}")
            if group := places[name]:
                in_groups.setdefault(group, {})[name] = value
            else:
                own[name] = value
        for group, values in in_groups.items():
            own[group] = own.get(group, getattr(self, group)).but(**values)
        return msgspec.structs.replace(self, **own)

    def to_json(self) -> str:
        """The value as one JSON object. Mappings keep their order: followed executions are dropped oldest first."""
        text = json.dumps(
            self.json_fields(),
            separators=(",", ":"),
            ensure_ascii=False,
            default=_encode_stored_value,
        )
        return replace_surrogates(text)

    def json_fields(self) -> dict[str, Any]:
        """The fields of the value's JSON object."""
        found = dict(self.unknown)
        for name, json_name in _names(type(self)):
            value = getattr(self, name)
            if self.flat and isinstance(value, FieldGroup):
                found |= value.json_fields()
            else:
                found[json_name] = value
        return found

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` of this or another version wrote.

        Raises:
            StoredValueError: the text is no JSON, lacks a field that has no default, or a field has another type.
        """
        try:
            if not cls.flat:
                with suppress(msgspec.ValidationError):  # it has unknown fields, or is of version 0.1.0
                    return msgspec.json.decode(text, type=cls, strict=False)
            fields = msgspec.json.decode(text)
            if isinstance(fields, dict):
                fields = cls.nest_fields(fields)
            # not strict, because Lua may write a whole number as 3.0
            return msgspec.convert(fields, type=cls, strict=False)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise errors.StoredValueError(f"it is no {cls.__name__}: {error}") from error

    @classmethod
    def nest_fields(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a stored JSON object as msgspec reads them: nested by group, and the unknown ones apart."""
        return nest(cls, fields, flat=cls.flat)


class FieldGroup(StoredValue, frozen=True, kw_only=True):
    """A part of a larger value. Its fields are changed through the larger value: see `StoredValue.but`."""


class Detail(StoredValue, frozen=True, kw_only=True):
    """A value that may be empty, such as the failure of a stack that has not failed. An empty one is false."""

    def __bool__(self) -> bool:
        return self != type(self)()

    def json_fields(self) -> dict[str, Any]:
        """See `StoredValue.json_fields`; an empty value has none."""
        return super().json_fields() if self else {}


def nest(kind: type[StoredValue], fields: Mapping[str, Any], *, flat: bool) -> dict[str, Any]:
    """The fields of a JSON object as msgspec reads a value: nested by group, and the unknown ones apart.

    Args:
        kind: the value's class.
        fields: the JSON object's.
        flat: whether it has the fields of the value's groups beside the value's own.
    """
    found: dict[str, Any] = {}
    unknown: dict[str, object] = {}
    in_groups: dict[str, dict[str, Any]] = {}
    own, places = _types_of_json_fields(kind), json_field_groups(kind)
    for name, value in fields.items():
        place = places.get(name) if flat or name in own else None
        if place is None or (flat and _is_group(own.get(name))):
            unknown[name] = value
        elif place:
            in_groups.setdefault(place, {})[name] = value
        else:
            found[name] = _nest_within(own[name], value)
    for group, values in in_groups.items():
        found[group] = nest(own[group], values, flat=True)
    return {**found, _UNKNOWN: unknown}


def _is_group(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, FieldGroup)


def _nest_within(annotation: Any, value: Any) -> Any:
    """A field's value, with every stored value in it nested."""
    kind = _stored_value_class(annotation)
    if kind is None:
        return value
    if isinstance(value, list):
        return [_nest_within(kind, each) for each in value]
    if not isinstance(value, dict):
        return value
    if get_origin(annotation) is dict:
        return {name: _nest_within(kind, each) for name, each in value.items()}
    return kind.nest_fields(value)


def _stored_value_class(annotation: Any) -> type[StoredValue] | None:
    """The class of stored values that an annotation names; None if it names none."""
    if isinstance(annotation, type) and issubclass(annotation, StoredValue):
        return annotation
    return next(filter(None, map(_stored_value_class, get_args(annotation))), None)


@cache
def field_groups(kind: type[StoredValue]) -> Mapping[str, str]:
    """The names of all fields of a value and of its groups, each with the value's group that holds it.

    The group is empty for a field of the value itself.

    Raises:
        TypeError: two fields have the same name.
    """
    return _groups_of_fields(kind, lambda field: field.name)


@cache
def json_field_groups(kind: type[StoredValue]) -> Mapping[str, str]:
    """The same by the names that the fields have in JSON."""
    return _groups_of_fields(kind, lambda field: field.encode_name)


def _groups_of_fields(kind: type[StoredValue], name_of: Any) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for field in msgspec.structs.fields(kind):
        if field.encode_name == _UNKNOWN:
            continue
        names = {name_of(field): ""}
        if _is_group(field.type):
            names |= dict.fromkeys(_groups_of_fields(field.type, name_of), field.name)
        if twice := found.keys() & names.keys():
            raise TypeError(f"{kind.__name__} has two fields {min(twice)!r}")
        found |= names
    return found


@cache
def _names(kind: type[StoredValue]) -> list[tuple[str, str]]:
    """The names of a value's own fields, in Python and in JSON."""
    fields = msgspec.structs.fields(kind)
    return [(each.name, each.encode_name) for each in fields if each.encode_name != _UNKNOWN]


@cache
def _types_of_json_fields(kind: type[StoredValue]) -> Mapping[str, Any]:
    """The annotations of a value's own fields, by their names in JSON."""
    return {each.encode_name: each.type for each in msgspec.structs.fields(kind)}


def _encode_stored_value(value: object) -> object:
    if isinstance(value, StoredValue):
        return value.json_fields()
    raise TypeError(f"a {type(value).__name__} has no JSON form")
