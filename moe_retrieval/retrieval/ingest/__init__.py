"""One run of the indexer: documents find their domains, and are encoded and written."""
