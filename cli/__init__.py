"""The command line of moeret: one file per verb, each a thin face on one call of `moe_retrieval.Moeret`."""
