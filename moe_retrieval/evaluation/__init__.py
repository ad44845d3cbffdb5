"""How good vectors and rankings are, with figures that can be compared."""
