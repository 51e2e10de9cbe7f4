"""A target with a fault that only this file has: one push in very many, which chance alone would not find."""

from deployer.model.errors import PayloadError
from deployer.model.refs import Ref


def _planted(data: bytes) -> None:
    try:
        ref = Ref.parse(data.decode("utf-8", "replace"))
    except PayloadError:
        return
    if ref.is_tag and ref.short[:1] == "v":
        raise RuntimeError("the planted fault")


TARGETS = {"planted": _planted}
