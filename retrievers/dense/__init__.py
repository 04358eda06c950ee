"""Dense retrieval: stored vectors and indexes over them."""
