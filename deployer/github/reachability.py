"""Finds out whether GitHub's API answers."""

from urllib.parse import urlsplit

import requests

from deployer.github.client import API_VERSION
from deployer.github.errors import descriptor_remedy
from deployer.model.errors import TransientError


def probe_api(api_url: str, seconds: float) -> None:
    """Send one request without credentials. It is never repeated.

    Args:
        api_url: the API's address.
        seconds: how long to wait for a connection, and as long again for an answer.

    Raises:
        TransientError: GitHub does not answer, or another server does.
    """
    url = f"{api_url}/meta"
    try:
        headers = {"User-Agent": "deployer", "X-GitHub-Api-Version": API_VERSION}
        answer = requests.get(url, timeout=seconds, headers=headers, stream=True)
        answer.close()
    except requests.RequestException as error:
        if remedy := descriptor_remedy(error):
            raise TransientError(f"deployer cannot connect to GitHub: {remedy}") from error
        raise TransientError(
            f"GitHub does not answer at {_origin_without_credentials(url)} ({type(error).__name__})"
        ) from error
    if answer.status_code >= 500:
        raise TransientError(f"GitHub answers {answer.status_code} at {_origin_without_credentials(url)}")
    # The body is not read because it is long. The content type JSON distinguishes it from a proxy's page
    if "json" not in answer.headers.get("content-type", ""):
        raise TransientError(
            f"the server at {_origin_without_credentials(url)} is not GitHub's API; check DEPLOYER_GITHUB_API_URL"
        )


def _origin_without_credentials(url: str) -> str:
    """The scheme and host of an address, without the password that a setting may contain."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
