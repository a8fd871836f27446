"""What the registry costs and what it saves, measured beside what one would do without it."""
