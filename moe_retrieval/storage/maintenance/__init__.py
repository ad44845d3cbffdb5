"""Care for a store: what it consists of, what nothing needs any more, whether it is whole."""
