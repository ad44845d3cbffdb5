"""From texts to vectors: where a model is found, its tokenizer, and one file per engine."""
