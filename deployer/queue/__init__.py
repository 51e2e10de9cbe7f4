"""One queue of work for each repository: what enters it, how its items run, how they end."""
