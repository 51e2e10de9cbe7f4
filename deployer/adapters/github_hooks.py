"""Webhooks: which of them is deployer's, what GitHub could not deliver to it, and how it is delivered again.

Only a webhook whose address is deployer's own, character by character, is read, changed or redelivered. Another path
or port on the same host is another product's, or another installation of deployer's.
"""

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from deployer.adapters import github_answers as answers
from deployer.adapters.github_errors import ApiError, Headers, rate_limit_seconds, requires_permission
from deployer.environments import Repository
from deployer.errors import NotFoundError
from deployer.ports import HookDelivery

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
ApiCall = Callable[..., tuple[Headers, Any]]
"""Verb, path, type of the answer, and `query`, `body` or `once_only` -> headers and body."""

_APP_WEBHOOK = "/app/hook"
_CURSOR = re.compile(r'[?&]cursor=([^&>]+)[^>]*>; rel="next"')
_MAX_PAGES = 50  # of a hundred attempts each; the resync covers what is older
_UNREADABLE = frozenset({403, 404})


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook whose address is deployer's own.

    Attributes:
        path: its address in the API.
        hook: what GitHub says of it; None of a GitHub App's own.
        organization: the login of the organization that has it; empty for a repository's own and for an App's.
        repository_id: whose deliveries are meant; 0 where the webhook has no others, or those of all count.
    """

    path: str
    hook: answers.Hook | None = None
    organization: str = ""
    repository_id: int = 0


def webhook_path(repository: Repository, delivery: HookDelivery) -> str:
    """The address in the API of the webhook that a delivery was made to."""
    if not delivery.hook:
        return _APP_WEBHOOK
    owner = f"/orgs/{delivery.organization}" if delivery.organization else f"/repos/{repository.full_name}"
    return f"{owner}/hooks/{delivery.hook}"


def require_app_webhook(call: ApiCall, url: str) -> Webhook:
    """The webhook of the GitHub App. One call.

    Raises:
        NotFoundError: it leads elsewhere: another product shares the App, or the address is not that of the settings.
    """
    config = call("GET", f"{_APP_WEBHOOK}/config", answers.AppHookConfig)[1]
    if config.url != url:
        raise NotFoundError(
            f"the webhook of the GitHub App leads to another address than {url or 'deployer'}; set it in the App's "
            "settings, or DEPLOYER_PUBLIC_URL to the address that it has"
        )
    return Webhook(_APP_WEBHOOK)


def find_webhook(call: ApiCall, repository: Repository, url: str) -> tuple[Webhook | None, str]:
    """The webhook of a repository or, where it has none, of its organization.

    One call for each hundred webhooks, one more for the owner, and one for each hundred of the organization's.

    Returns:
        None where there is none; then also why the organization's are not known, or an empty text.
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
            f"; those of {login} cannot be read (GitHub answers {error.status}), which takes {needed}",
        )
    return None, ""


def require_webhook(call: ApiCall, repository: Repository, url: str) -> Webhook:
    """The webhook that `find_webhook` finds, at the same cost.

    Raises:
        NotFoundError: there is none.
    """
    webhook, unread = find_webhook(call, repository, url)
    if webhook is None:
        remedy = f"see: deployer webhook install {repository}" if url else "set DEPLOYER_PUBLIC_URL"
        raise NotFoundError(f"{repository} has no webhook to {url or 'an unset address'}{unread}; {remedy}")
    return webhook


def webhook_permission(access: str, organization: str) -> str:
    """What GitHub calls the right to `read` or `write` a webhook.

    Args:
        access: one of the two.
        organization: whose webhook it is; empty for a repository's or an App's.
    """
    return f"organization webhooks: {access}" if organization else f"webhooks: {access}"


def delivery_attempts(
    call: ApiCall, webhook: Webhook, since: float, others: Collection[int] = ()
) -> list[HookDelivery]:
    """The attempts at deliveries to a webhook since a time (epoch seconds), newest first; a call for each hundred.

    Of an organization's webhook those count that are about the webhook's `repository_id` or one of the `others`.
    They are not asked for by their outcome: GitHub's `failure` leaves out those that met nobody.
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
    _log.warning("%s: only the newest %s attempts were read", webhook.path, f"{_MAX_PAGES * 100:,}")
    return found


def install_webhook(
    call: ApiCall, repository: Repository, url: str, secret: str, events: Sequence[str]
) -> str:
    """See that a webhook delivers here; two calls or more.

    Returns:
        `created`, `updated`, or `unchanged` but for the secret.
    """
    config = {"url": url, "content_type": "json", "secret": secret, "insecure_ssl": "0"}
    webhook, _ = find_webhook(call, repository, url)
    if webhook is None or webhook.hook is None:
        body: Mapping[str, Any] = {"name": "web", "active": True, "events": list(events), "config": config}
        # not repeated: GitHub would refuse the same webhook once more, if it was the answer that was lost
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
    """Every entry of a list that GitHub numbers the pages of; a call for each hundred."""
    for page in range(1, _MAX_PAGES + 1):
        headers, listed = call("GET", path, list[entry], query={"per_page": 100, "page": page})  # type: ignore[valid-type]
        yield from listed
        if 'rel="next"' not in headers.get("link", ""):
            return
    _log.warning("%s: only the first %s entries were read", path, f"{_MAX_PAGES * 100:,}")


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
