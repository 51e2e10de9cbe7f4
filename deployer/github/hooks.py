"""Manages deployer's webhook on GitHub.

Deployer reads, changes or redelivers only for a webhook whose address equals deployer's own, character by character.
Another path or port on the same host belongs to another product, or to another installation of deployer.
"""

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from deployer.environment.code_host import HookDelivery
from deployer.github import answers
from deployer.github.errors import ApiError, Headers, rate_limit_seconds, requires_permission
from deployer.model.environments import Repository
from deployer.model.errors import NotFoundError

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
ApiCall = Callable[..., tuple[Headers, Any]]
"""Sends a request: (verb, path, type of the answer, and `query`, `body` or `once_only`) -> (headers, body)."""

_APP_WEBHOOK = "/app/hook"
_CURSOR = re.compile(r'[?&]cursor=([^&>]+)[^>]*>; rel="next"')
PAGE = 100  # entries of a list
_MAX_PAGES = 50  # each has a hundred entries; a resync covers older deliveries
_UNREADABLE = frozenset({403, 404})


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook whose address is deployer's own.

    Attributes:
        path: the webhook's path in the API.
        hook: GitHub's description of the webhook; None for a GitHub App's.
        organization: the login of the organization that owns it; empty for a repository's or an App's webhook.
        repository_id: GitHub's id of the repository whose deliveries count; 0 if all deliveries of the webhook count.
    """

    path: str
    hook: answers.Hook | None = None
    organization: str = ""
    repository_id: int = 0


def webhook_path(repository: Repository, delivery: HookDelivery) -> str:
    """The API path of the webhook that a delivery was made to."""
    if not delivery.hook:
        return _APP_WEBHOOK
    owner = f"/orgs/{delivery.organization}" if delivery.organization else f"/repos/{repository.full_name}"
    return f"{owner}/hooks/{delivery.hook}"


def require_app_webhook(call: ApiCall, url: str) -> Webhook:
    """The webhook of the GitHub App. One call.

    Raises:
        NotFoundError: the webhook has another address, because another product shares the App or DEPLOYER_PUBLIC_URL
            differs.
    """
    config = call("GET", f"{_APP_WEBHOOK}/config", answers.AppHookConfig)[1]
    if config.url != url:
        raise NotFoundError(
            f"the webhook of the GitHub App does not have the address {url or 'of deployer'}; change it in the App's "
            "settings, or set DEPLOYER_PUBLIC_URL to the address that the webhook has"
        )
    return Webhook(_APP_WEBHOOK)


def find_webhook(call: ApiCall, repository: Repository, url: str) -> tuple[Webhook | None, str]:
    """The repository's webhook with deployer's address or, if it has none, its organization's.

    One call per hundred webhooks of the repository; if none matches, one for the owner and one per hundred webhooks of
    the organization.

    Returns:
        The webhook, or None if no webhook has this address; and why the organization's webhooks could not be read, as
        a clause for an error text, or an empty text.
    """
    for hook in list_all_pages(call, f"/repos/{repository.full_name}/hooks", answers.Hook):
        if url and hook.config.url == url:
            return Webhook(f"/repos/{repository.full_name}/hooks/{hook.id}", hook), ""
    owned = call("GET", f"/repos/{repository.full_name}", answers.OwnedRepository)[1]
    if owned.owner.type != "Organization":
        return None, ""
    login = owned.owner.login
    try:
        for hook in list_all_pages(call, f"/orgs/{login}/hooks", answers.Hook):
            if url and hook.config.url == url:
                return Webhook(f"/orgs/{login}/hooks/{hook.id}", hook, login, owned.id), ""
    except ApiError as error:
        if error.status not in _UNREADABLE or rate_limit_seconds(error) is not None:
            raise
        needed = "organization webhooks: read, or the scope admin:org_hook"
        return (
            None,
            f"; the webhooks of {login} cannot be read (GitHub answers {error.status}) without {needed}",
        )
    return None, ""


def require_webhook(call: ApiCall, repository: Repository, url: str) -> Webhook:
    """The webhook that `find_webhook` finds, with the same calls.

    Raises:
        NotFoundError: no webhook has this address.
    """
    webhook, unread = find_webhook(call, repository, url)
    if webhook is None:
        remedy = f"run: deployer webhook install {repository}" if url else "set DEPLOYER_PUBLIC_URL"
        raise NotFoundError(f"{repository} has no webhook to {url or 'an unset address'}{unread}; {remedy}")
    return webhook


def webhook_permission(access: str, organization: str) -> str:
    """GitHub's name of the permission to read or write a webhook.

    Args:
        access: `read` or `write`.
        organization: the login of the organization that owns the webhook; empty for a repository's or an App's.
    """
    return f"organization webhooks: {access}" if organization else f"webhooks: {access}"


def read_deliveries(
    call: ApiCall, repository: Repository | None, url: str, since: float, others: Collection[int]
) -> list[HookDelivery]:
    """The attempts at deliveries to a repository's or its organization's webhook; without a repository, to the App's.

    Raises:
        NotFoundError: no webhook has this address.
    """
    if repository is None:
        return delivery_attempts(call, require_app_webhook(call, url), since)
    webhook = require_webhook(call, repository, url)
    with requires_permission(webhook_permission("read", webhook.organization)):
        return delivery_attempts(call, webhook, since, others)


def delivery_attempts(
    call: ApiCall, webhook: Webhook, since: float, others: Collection[int] = ()
) -> list[HookDelivery]:
    """The attempts at deliveries to a webhook since a time, newest first. One call per hundred attempts.

    All outcomes are read, because GitHub's filter `failure` omits attempts that could not connect.

    Args:
        call: sends a request.
        webhook: the webhook.
        since: epoch seconds; older attempts are left out.
        others: GitHub's ids of further repositories. Attempts of an organization's webhook count if they are about
            one of these or about the webhook's `repository_id`.
    """
    found: list[HookDelivery] = []
    counted = {webhook.repository_id, *others} if webhook.repository_id else None
    query: dict[str, Any] = {"per_page": 100}
    for _ in range(_MAX_PAGES):
        headers, listed = call("GET", f"{webhook.path}/deliveries", list[answers.HookDelivery], query=query)
        made = [_delivery_attempt(webhook, each) for each in listed]
        found += (
            attempt
            for attempt, each in zip(made, listed, strict=True)
            if attempt.delivered_at >= since and (counted is None or each.repository_id in counted)
        )
        cursor = _CURSOR.search(headers.get("link", ""))
        if not cursor or not made or made[-1].delivered_at < since:
            return found
        query["cursor"] = cursor.group(1)
    _log.warning("%s: deployer reads only the newest %s attempts", webhook.path, f"{_MAX_PAGES * 100:,}")
    return found


def install_webhook(
    call: ApiCall, repository: Repository, url: str, secret: str, events: Sequence[str]
) -> str:
    """Create or update the webhook, so that it delivers JSON to this address. Two calls or more.

    The secret is set in any case, because GitHub does not show whether it is the same.

    Returns:
        `created`, `updated`, or `unchanged` if nothing but the secret was set.
    """
    config = {"url": url, "content_type": "json", "secret": secret, "insecure_ssl": "0"}
    webhook, _ = find_webhook(call, repository, url)
    if webhook is None or webhook.hook is None:
        body: Mapping[str, Any] = {"name": "web", "active": True, "events": list(events), "config": config}
        # not repeated, because GitHub would refuse a second webhook with this address if only the answer was lost
        call("POST", f"/repos/{repository.full_name}/hooks", answers.Created, body=body, once_only=True)
        return "created"
    existing = webhook.hook
    all_events = sorted({*existing.events, *events})
    body = {"active": True, "events": all_events, "config": config}
    with requires_permission(webhook_permission("write", webhook.organization)):
        call("PATCH", webhook.path, answers.Created, body=body)
    same = (
        existing.active and sorted(existing.events) == all_events and existing.config.content_type == "json"
    )
    return "unchanged" if same else "updated"


def list_all_pages(call: ApiCall, path: str, entry: type[_T]) -> Iterator[_T]:
    """Every entry of a list with numbered pages, up to 5,000. One call per hundred entries."""
    for page in range(1, _MAX_PAGES + 1):
        headers, listed = call("GET", path, list[entry], query={"per_page": PAGE, "page": page})  # type: ignore[valid-type]
        yield from listed
        if 'rel="next"' not in headers.get("link", ""):
            return
    _log.warning("%s: deployer reads only the first %s entries", path, f"{_MAX_PAGES * 100:,}")


def _delivery_attempt(webhook: Webhook, listed: answers.HookDelivery) -> HookDelivery:
    return HookDelivery(
        id=listed.id,
        hook=webhook.hook.id if webhook.hook else 0,
        guid=listed.guid,
        event=listed.event,
        ok=200 <= (listed.status_code or 0) < 300,
        delivered_at=listed.delivered_at.timestamp(),
        refused=listed.status_code == 401,
        organization=webhook.organization,
    )
