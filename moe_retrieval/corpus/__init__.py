"""From paths to documents, from documents to chunks, and what changed since the last run."""
