"""Settings: types, sections, the layering of files, arguments and choices of the run."""
