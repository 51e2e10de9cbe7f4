"""One queue of work for each repository: what enters it, who runs it, how it ends."""
