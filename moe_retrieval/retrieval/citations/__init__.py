"""From hits to a context of cited text, and back from its citations to the sources."""
