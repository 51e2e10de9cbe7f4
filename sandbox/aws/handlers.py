"""The handlers of a region by resource type, including the types of the registry that are only stored."""

from __future__ import annotations

from sandbox.aws.places import Place
from sandbox.aws.resources import Handler
from sandbox.aws.schemas import known_types
from sandbox.aws.storedresources import CustomResourceHandler, StoredHandler

_CUSTOM = ("Custom::", "AWS::CloudFormation::CustomResource")
# The transform replaces these types, so CloudFormation does not know them.
_TRANSFORMED = "AWS::Serverless::"


class Handlers(dict[str, Handler]):
    """The handlers of simulated types; the handler of any other type of the registry is created on first use."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place

    def __contains__(self, kind: object) -> bool:
        name = str(kind)
        known = name in known_types() and not name.startswith(_TRANSFORMED)
        return super().__contains__(kind) or known or name.startswith(_CUSTOM)

    def __missing__(self, kind: str) -> Handler:
        if kind not in self:
            raise KeyError(kind)
        custom = kind.startswith(_CUSTOM)
        handler = CustomResourceHandler(self._place) if custom else StoredHandler(self._place, kind)
        self[kind] = handler
        return handler
