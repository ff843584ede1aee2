"""What to do about workers that fail: when to leave one alone, and how an answer goes on elsewhere."""
