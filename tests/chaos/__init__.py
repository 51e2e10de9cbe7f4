"""Fault injection: a random history of pushes under faults, judged by a checker with independent records."""
