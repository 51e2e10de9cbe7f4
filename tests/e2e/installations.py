"""The settings of the installations of these tests."""

SECRETS = {
    "DEPLOYER_GITHUB_TOKEN": "ghp-the-token-of-this-test",
    "DEPLOYER_GITHUB_WEBHOOK_SECRET": "the-webhook-secret-of-this-test",
    "DEPLOYER_AWS_EVENT_KEY": "the-event-key-of-this-test",
    "DEPLOYER_API_TOKEN": "the-api-token-of-this-test",
}

FAST = {
    "DEPLOYER_SANDBOX_SPEED": "10",
    "DEPLOYER_POLL_SECONDS": "1",
    "DEPLOYER_RETRY_SECONDS": "0.3",
    "DEPLOYER_LEASE_SECONDS": "3",
    "DEPLOYER_GRACE_SECONDS": "1",
    "DEPLOYER_TAG_WAIT_SECONDS": "4",
    "DEPLOYER_MAX_ATTEMPTS": "3",
    "DEPLOYER_CONCURRENCY": "3",
}

FRAGILE = {
    **FAST,
    "DEPLOYER_LEASE_SECONDS": "2",
    "DEPLOYER_POLL_SECONDS": "0.1",
    "DEPLOYER_ORPHAN_SECONDS": "4",
    "DEPLOYER_RESYNC_SECONDS": "0",
}
