"""Adapting an encoder to a domain: pairs, losses, recipes on the Hugging Face Trainer, and the gate."""
