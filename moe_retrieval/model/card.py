"""The model card that is saved beside weights: what the model is made of, and how to load it."""

from __future__ import annotations

from typing import Any


def model_card(config: Any, *, base: str, pooling: str, head: bool) -> str:
    """README.md in the form the Hugging Face hub reads: YAML front matter, then text.

    Args:
        config: a configuration with experts.
        base: name of the model it was made from.
        pooling: mean or cls.
        head: whether the pooling head follows.
    """
    how = f"{pooling}{', then the pooling head (LayerNorm, linear, tanh, linear)' if head else ''}"
    domains = [f"{name} ({own})" for name, own in sorted(config.domains.items())]
    listed = [
        f"- experts: {', '.join(config.experts)}",
        f"- domains: {', '.join(domains) or 'none'}",
        f"- layers with experts: {', '.join(map(str, config.moe_layers))} of {config.num_hidden_layers}",
        f"- routing: {config.routing}{f', top {config.top_k}' if config.learned else ''}",
        f"- pooling: {how}",
        *_grown(config),
    ]
    known = base if "/" in base and not base.startswith("/") else ""
    domain = next(iter(sorted(config.domains)), "general")
    head_matter = _HEAD.format(base=known, kind=config.model_type)
    return head_matter + _BODY.format(facts="\n".join(listed), domain=domain)


def _grown(config: Any) -> list[str]:
    facts = []
    if config.low_rank:
        ranks = ", ".join(f"{name} (rank {rank})" for name, rank in sorted(config.low_rank.items()))
        facts.append(f"- low-rank experts: {ranks}")
    if config.vocabulary:
        words = ", ".join(f"{name}: {len(own)}" for name, own in sorted(config.vocabulary.items()))
        facts.append(f"- words of their own: {words}")
    return facts


_HEAD = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
base_model: {base}
tags:
- sentence-transformers
- feature-extraction
- mixture-of-experts
- moeret
- {kind}
---

"""

_BODY = """# A domain-expert encoder

One encoder whose feed-forward layers hold an expert per domain; attention, embeddings and norms are shared. A
domain without an expert of its own uses `general`, the pretrained weights.

{facts}

## Use

With moeret:

```python
from moe_retrieval import Encoder

vectors = Encoder.load("FOLDER").encode_query(["a question"], domain="{domain}")
```

With sentence-transformers, where moeret is installed (a pooling head, and domains with words of their own,
need `trust_remote_code=True` there):

```python
import moe_retrieval.integrations.huggingface
from sentence_transformers import SentenceTransformer

vectors = SentenceTransformer("FOLDER").encode(["a question"], domain="{domain}")
```

With transformers; `trust_remote_code=True` loads the code that lies beside the weights:

```python
import torch
from transformers import AutoModel

model = AutoModel.from_pretrained("FOLDER", trust_remote_code=True)
hidden = model(input_ids=..., attention_mask=..., expert_ids=torch.tensor([0])).last_hidden_state
```
"""
