"""What judged queries say of a store: how well it answers, and how its lists are best joined."""
