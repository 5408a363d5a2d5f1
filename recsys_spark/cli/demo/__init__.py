"""The demo: a shop's log, a run, what its lists found."""
