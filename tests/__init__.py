"""A package, so that every test may say `from tests.doubles import FakeHost`."""
