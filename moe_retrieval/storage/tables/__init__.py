"""The LanceDB table of a domain: rows, filters, checksums, and one version of it to read."""
