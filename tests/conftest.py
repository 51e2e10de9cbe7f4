"""Its being here puts the directory above `tests/` on the path (pytest's `prepend` import mode)."""
