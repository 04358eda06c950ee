"""The corpus graph: passages as nodes, why one leads to another as edges, and walks over them."""
