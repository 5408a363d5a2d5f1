"""Pictures of a run, in one file."""
