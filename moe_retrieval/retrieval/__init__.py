"""Index, reindex, retrieve, fuse and assemble: where encoder and store meet."""
