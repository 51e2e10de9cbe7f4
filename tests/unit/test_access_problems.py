"""The lines that say why GitHub refuses access, with the page that changes it."""

import pytest

from deployer.github import access_problems as problems


@pytest.mark.parametrize(
    ("api", "pages"),
    [
        ("https://api.github.com", "https://github.com"),
        ("https://api.acme.ghe.com", "https://acme.ghe.com"),
        ("https://ghe.example/api/v3", "https://ghe.example"),
        ("https://api.ghe.example/api/v3", "https://api.ghe.example"),
        ("http://user:password@127.0.0.1:8081/api/v3", "http://127.0.0.1:8081"),
    ],
)
def test_the_address_of_the_pages(api: str, pages: str) -> None:
    assert problems.web_address(api) == pages


@pytest.mark.parametrize(
    ("header", "link"),
    [
        (None, ""),
        ("", ""),
        ("partial-results; organizations=21955855", ""),
        ("required; url=https://github.com/orgs/acme/sso?request=A1", "/orgs/acme/sso?request=A1"),
        ("required;url=https://github.com/orgs/acme/sso?x", "/orgs/acme/sso?x"),
        ("required; url=https://evil.example/orgs/acme/sso", "/settings/tokens"),
        ("required; url=https://github.com.evil.example/x", "/settings/tokens"),
    ],
)  # fmt: skip
def test_the_page_of_single_sign_on(header: str | None, link: str) -> None:
    text = problems.sign_on_problem(header, "https://api.github.com")
    assert text.partition(" at ")[2] == (f"https://github.com{link}" if link else "")


@pytest.mark.parametrize(
    ("header", "needed"),
    [
        (None, {}),
        ("statuses=write", {"statuses": "write"}),
        ("contents=read,metadata=read", {"contents": "read", "metadata": "read"}),
        ("pull_requests=write; issues=write", {"pull_requests": "write"}),
        ("allows_permissionless_access=true", {}),
        ("nonsense", {}),
    ],
)
def test_the_permissions_that_an_endpoint_accepts(header: str | None, needed: dict[str, str]) -> None:
    assert problems.accepted_permissions(header) == needed


@pytest.mark.parametrize(
    ("held", "missing"),
    [
        ({"statuses": "write", "contents": "read"}, {}),
        ({"statuses": "admin", "contents": "write"}, {}),
        ({"statuses": "read", "contents": "read"}, {"statuses": "write"}),
        ({"contents": "unknown"}, {"statuses": "write", "contents": "read"}),
    ],
)
def test_the_missing_permissions(held: dict[str, str], missing: dict[str, str]) -> None:
    assert problems.missing_permissions({"statuses": "write", "contents": "read"}, held) == missing


def test_names_are_those_of_githubs_settings() -> None:
    assert problems.permission_names({"pull_requests": "write", "contents": "read"}) == (
        "pull requests: write and contents: read"
    )
