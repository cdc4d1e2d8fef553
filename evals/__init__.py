"""One file an experiment; each is an Inspect task."""
# inspect-evals-lint: ignore-file[IEFS003] -- _registry exports them; here a task would hide the module of its name
