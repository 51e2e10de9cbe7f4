"""Measures the code: how much a reader has to hold in mind, in numbers with a target each."""
