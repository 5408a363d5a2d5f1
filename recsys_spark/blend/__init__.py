"""All lists of a user into one: collected, fused, ruled, diversified, explored."""
