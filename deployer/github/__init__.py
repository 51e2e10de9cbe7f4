"""The adapter of GitHub."""
