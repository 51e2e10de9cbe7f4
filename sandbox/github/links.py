"""The fields of accounts and repositories that GitHub always sends and that nothing here uses."""

from __future__ import annotations

from typing import Any

_OF_USER = {
    "events_url": "/events{/privacy}",
    "followers_url": "/followers",
    "following_url": "/following{/other_user}",
    "gists_url": "/gists{/gist_id}",
    "organizations_url": "/orgs",
    "received_events_url": "/received_events",
    "starred_url": "/starred{/owner}{/repo}",
    "subscriptions_url": "/subscriptions",
}
_OF_REPOSITORY = {
    "assignees_url": "/assignees{/user}",
    "blobs_url": "/git/blobs{/sha}",
    "collaborators_url": "/collaborators{/collaborator}",
    "comments_url": "/comments{/number}",
    "contributors_url": "/contributors",
    "deployments_url": "/deployments",
    "downloads_url": "/downloads",
    "events_url": "/events",
    "forks_url": "/forks",
    "git_commits_url": "/git/commits{/sha}",
    "issue_comment_url": "/issues/comments{/number}",
    "issue_events_url": "/issues/events{/number}",
    "issues_url": "/issues{/number}",
    "keys_url": "/keys{/key_id}",
    "labels_url": "/labels{/name}",
    "languages_url": "/languages",
    "milestones_url": "/milestones{/number}",
    "notifications_url": "/notifications{?since,all,participating}",
    "pulls_url": "/pulls{/number}",
    "releases_url": "/releases{/id}",
    "stargazers_url": "/stargazers",
    "subscribers_url": "/subscribers",
    "subscription_url": "/subscription",
    "teams_url": "/teams",
}
_COUNTS = ("forks", "network_count", "open_issues", "subscribers_count", "watchers")
_HAS = ("has_discussions", "has_downloads", "has_pages", "has_projects")

PUBLIC_USER = {
    **dict.fromkeys(("bio", "blog", "company", "email", "hireable", "location", "name")),
    **dict.fromkeys(("followers", "following", "public_gists", "public_repos"), 0),
    **dict.fromkeys(("created_at", "updated_at"), "2026-01-01T00:00:00Z"),
}
"""The further fields of the account that sends a request."""


def user_fields(api: str) -> dict[str, Any]:
    """Fields of an account.

    Args:
        api: the account's URL in the API.
    """
    return {name: f"{api}{path}" for name, path in _OF_USER.items()}


def repository_fields(api: str) -> dict[str, Any]:
    """Fields of a repository.

    Args:
        api: the repository's URL in the API.
    """
    return {
        **{name: f"{api}{path}" for name, path in _OF_REPOSITORY.items()},
        **dict.fromkeys(_COUNTS, 0),
        **dict.fromkeys(_HAS, False),
        "license": None,
        "mirror_url": None,
    }
