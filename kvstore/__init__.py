"""KV store: keys, tiers and budgets for precomputed KV caches."""
