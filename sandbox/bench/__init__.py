"""Measures the hot paths, each next to other programs that do the same on the same cores in the same run."""
