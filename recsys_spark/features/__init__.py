"""What is known of users and items: declared, computed by groups, written by a step."""
