"""Measurements of the code's readability, each with a target."""
