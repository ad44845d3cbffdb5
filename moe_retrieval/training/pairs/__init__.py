"""Honest pairs: made, mined, cleaned, and split by document."""
