"""What an organization of many repositories costs, measured on real processes."""
