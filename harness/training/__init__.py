"""What a topic gives, and the one loop that trains it."""
