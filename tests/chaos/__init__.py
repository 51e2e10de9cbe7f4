"""Fault injection: a random history of pushes under faults, and a checker that decides from independent records."""
