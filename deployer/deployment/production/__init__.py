"""What production runs: the newest allowed tag, or what a person chose after that tag was pushed."""
