"""The encoder's network: model families with experts, what a model folder holds, surgery on experts."""
