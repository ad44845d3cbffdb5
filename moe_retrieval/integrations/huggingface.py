"""Importing this makes AutoModel, AutoConfig and SentenceTransformer know the families with experts."""

from __future__ import annotations

from moe_retrieval.model import loading

MODELS = tuple(loading.model_class(family) for family in loading.MODELS)
"""The model classes that are registered now."""
