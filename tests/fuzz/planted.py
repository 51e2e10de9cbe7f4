"""A target with a planted fault, which only a guided search can find."""

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
