"""Who calls, and how much each may: keys, sessions of pages, limits."""
