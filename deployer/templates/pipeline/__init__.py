"""The rules for the pipeline in a template: what it reads, and what starts it."""
