"""The adapter of AWS."""
