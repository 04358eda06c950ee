"""Generation: prompts, encoding plans, the engine that executes them, decoding, citations."""
