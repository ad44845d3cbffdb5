"""The store: LanceDB tables, a catalog of generations, and search structures derived from them."""
