"""Feature groups, one file each, discovered by the name of the file."""
