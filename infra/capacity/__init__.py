"""How long a night takes, how large things grow and what they cost, from measured rates."""
