"""Questions with retrieved, pruned passages out of data folders, for a model to learn from."""
