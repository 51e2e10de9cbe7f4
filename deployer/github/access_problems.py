"""Says in one line why GitHub refuses deployer access, with the link to the page on which people change that.

https://docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api
"""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

_LEVELS = {"read": 1, "write": 2, "admin": 3}
_SSO = re.compile(r"required;\s*url=(\S{1,2000})")


def web_address(api_url: str) -> str:
    """The address of GitHub's pages, from that of its API.

    Args:
        api_url: `https://api.github.com`, `https://api.NAME.ghe.com`, or `https://HOST/api/v3` of an Enterprise Server.
    """
    parts = urlsplit(api_url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host.removeprefix('api.') if not parts.path.strip('/') else host}"


def sign_on_problem(header: str | None, api_url: str) -> str:
    """What to do if an organization requires single sign-on for the token; empty if it does not.

    Args:
        header: the answer's `X-GitHub-SSO`, such as `required; url=https://github.com/orgs/acme/sso?...`; or None.
        api_url: the API that sent it. A link to another site is not repeated.
    """
    found = _SSO.match(header or "")
    if not found:
        return ""
    link, pages = found.group(1), web_address(api_url)
    if not link.startswith(f"{pages}/"):
        link = f"{pages}/settings/tokens"
    return f"the token is not authorized for the organization's single sign-on; its owner authorizes it at {link}"


def suspension_problem(owner: str, installation_page: str) -> str:
    """What to do about a suspended installation of the GitHub App."""
    return f"the GitHub App's installation on {owner} is suspended; unsuspend it at {installation_page}"


def installation_problem(repository: object, app_page: str) -> str:
    """What to do if the GitHub App is not installed on a repository.

    Args:
        repository: the repository.
        app_page: the App's public page; empty if it is unknown.
    """
    where = f"; install it at {app_page}/installations/new" if app_page else ""
    return f"the GitHub App is not installed on {repository}{where}"


def permission_problem(
    lacking: Mapping[str, str],
    requested: Mapping[str, str],
    *,
    owner: str,
    installation_page: str,
    app_settings: str,
) -> str:
    """What to do about permissions that an installation of the GitHub App lacks.

    Args:
        lacking: the missing permissions with the level that deployer needs.
        requested: the permissions that the App requests now. An owner may not have accepted all of them yet.
        owner: the account on which the App is installed.
        installation_page: the installation's page in the account's settings.
        app_settings: the App's page in its owner's settings.
    """
    unaccepted = missing_permissions(lacking, requested)
    accept = f"an owner of {owner} accepts it at {installation_page}/permissions/update"
    if unaccepted:
        names = permission_names(unaccepted)
        return f"the GitHub App lacks {names}; add it at {app_settings}/permissions, then {accept}"
    return f"{owner} has not accepted {permission_names(lacking)} for the GitHub App; {accept}"


def token_problem(lacking: str, api_url: str) -> str:
    """What to do about permissions that a personal token lacks."""
    return f"the token lacks {lacking}; add it at {web_address(api_url)}/settings/tokens"


def accepted_permissions(header: str | None) -> dict[str, str]:
    """The permissions that an endpoint requires.

    Args:
        header: the answer's `X-Accepted-GitHub-Permissions`, such as `statuses=write`. Commas separate permissions that
            are required together, semicolons alternatives, of which the first one counts.
    """
    first = (header or "").partition(";")[0]
    pairs = (each.strip().partition("=") for each in first.split(","))
    return {name: level for name, _, level in pairs if name and level in _LEVELS}


def missing_permissions(needed: Mapping[str, str], held: Mapping[str, str]) -> dict[str, str]:
    """Those of the needed permissions that are not held at the needed level."""
    return {
        name: level
        for name, level in needed.items()
        if _LEVELS.get(held.get(name, ""), 0) < _LEVELS.get(level, 1)
    }


def permission_names(permissions: Mapping[str, str]) -> str:
    """Permissions as GitHub's settings show them, such as `pull requests: write`."""
    return " and ".join(f"{name.replace('_', ' ')}: {level}" for name, level in permissions.items())


def missing_scopes(scopes_header: str, is_private: bool, may_push: bool) -> list[str]:
    """The permissions that a personal token lacks on a repository, as far as GitHub tells.

    Args:
        scopes_header: the answer's `X-OAuth-Scopes`. It is empty for a fine-grained token.
        is_private: whether the repository is private.
        may_push: whether the token's owner may push. The token itself may have fewer rights.
    """
    scopes = {each.strip() for each in scopes_header.split(",")} - {""}
    if scopes and not scopes & {"repo", "repo:status"}:
        return ["statuses: write (scope repo:status)"]
    if is_private and scopes and "repo" not in scopes:
        return ["contents: read (scope repo)"]
    return [] if may_push else ["statuses: write"]
