"""Fuzz tests of the code that reads input from outside."""
