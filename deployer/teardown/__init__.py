"""The end of an environment."""
