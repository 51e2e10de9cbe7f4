"""Processes that `deployer up` runs on this machine."""
