"""Image search: vectors of pictures, and retrievers that mix them with captions."""
