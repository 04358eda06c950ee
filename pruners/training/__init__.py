"""Training of pruners: labelled data, its split, and a trainer for each kind of model."""
