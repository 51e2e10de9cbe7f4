"""Puts `tests/` on the path, so that every test may say `from doubles import FakeHost`."""
