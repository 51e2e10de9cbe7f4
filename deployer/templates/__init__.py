"""The `deploy/` folder of a repository, from its text to a release or to findings."""
