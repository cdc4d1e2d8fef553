"""One file an experiment; each is an Inspect task."""
