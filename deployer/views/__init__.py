"""Records as JSON and as sentences, for the web and the command line."""
