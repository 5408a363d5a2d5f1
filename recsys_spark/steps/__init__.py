"""The steps of a day, one module each: `run(inputs, context)` from frames to frames."""
