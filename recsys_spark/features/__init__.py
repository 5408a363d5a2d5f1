"""Features of users and items: declared, computed by groups, written by a step."""
