"""What Redis holds of a token: nothing that anybody without the App's private key can read."""

from hypothesis import given, settings
from hypothesis import strategies as st

from deployer.github.token_seal import TokenSeal

API = "https://api.github.com"
KEY, OTHER = "-----BEGIN PRIVATE KEY-----\nabc\n", "-----BEGIN PRIVATE KEY-----\nabd\n"


@settings(max_examples=50, deadline=None)
@given(token=st.text(min_size=12, max_size=80), installation=st.integers(1, 2**40))
def test_a_sealed_token_is_readable_with_the_same_key_alone(token: str, installation: int) -> None:
    sealed = TokenSeal(KEY, API).seal(installation, token)
    assert token not in sealed
    assert sealed.isascii()
    assert TokenSeal(f"{KEY}\n", API).unseal(installation, sealed) == token, (
        "another process with the same key"
    )
    assert TokenSeal(KEY, API).seal(installation, token) != sealed
    assert TokenSeal(KEY, API).unseal(installation + 1, sealed) == ""
    assert TokenSeal(OTHER, API).unseal(installation, sealed) == ""
    assert TokenSeal(KEY, "https://ghe.example/api/v3").unseal(installation, sealed) == ""


@given(text=st.text(max_size=60))
def test_any_other_text_is_no_token(text: str) -> None:
    assert TokenSeal(KEY, API).unseal(7, text) == ""


def test_a_changed_text_is_no_token() -> None:
    seal = TokenSeal(KEY, API)
    sealed = seal.seal(7, "ghs_abc")
    changed = ("A" if sealed[20] != "A" else "B").join((sealed[:20], sealed[21:]))
    assert seal.unseal(7, changed) == ""
