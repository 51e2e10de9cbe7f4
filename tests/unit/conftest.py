"""Puts this folder on the import path, for `world` and `identities`."""
