"""Output of commands: tables and lines for people."""
