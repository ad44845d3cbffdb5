"""Search structures over one table version: FAISS, LanceDB's own, and exact search."""
