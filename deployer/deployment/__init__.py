"""Brings an environment to its commit."""
