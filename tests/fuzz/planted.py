"""A target with a fault that only this file has: one push in very many, which a fuzzer has to work its way to."""

from deployer.errors import PayloadError
from deployer.refs import Ref


def _planted(data: bytes) -> None:
    try:
        ref = Ref.parse(data.decode("utf-8", "replace"))
    except PayloadError:
        return
    name = ref.short
    if ref.is_tag and name[:1] == "v" and name[1:2] == "7" and name[-1:] == "!":
        raise RuntimeError("the planted fault")


TARGETS = {"planted": _planted}
