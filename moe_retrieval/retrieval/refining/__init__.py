"""What is done to hits after the searches, step by step."""
