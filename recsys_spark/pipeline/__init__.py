"""A day: runner, pinned inputs, run ledger, audit, publish, removal."""
