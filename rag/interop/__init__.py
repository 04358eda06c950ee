"""Other frameworks' objects as ours and ours as theirs; each module imports its framework late."""
