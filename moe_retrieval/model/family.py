"""What every family's model with experts does around its own forward: plan, sort, embed, unsort, losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils import ModelOutput

from .experts import Growth, LowRankLinear, Plan, plan_experts, plan_fan_out
from .routing import Gate, check_labels, router_losses


@dataclass
class RoutedOutput(ModelOutput):  # type: ignore[misc]
    """A model's output under a learned gate: what the family gives, and what its gates decided.

    `router_logits`: per layer with experts, (texts, experts) or (texts * tokens, experts). The losses are
    scalars; mutual information and specified expert need `expert_labels`.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    router_logits: tuple[Tensor, ...] | None = None
    load_balance_loss: Tensor | None = None
    mutual_information_loss: Tensor | None = None
    specified_expert_loss: Tensor | None = None


class InputRows(nn.Module):
    """Embeddings of one expert, outside the vocabulary: its first token (width,), its words (n, width)."""

    def __init__(self, width: int, *, token: bool, words: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(width)) if token else None
        self.words = nn.Parameter(torch.zeros(words, width)) if words else None

    def forward(self, ids: Tensor, table: nn.Embedding) -> Tensor:
        """Ids (texts, tokens) -> (texts, tokens, width); ids from the table's end on are the words."""
        if self.words is None:
            embedded: Tensor = table(ids)
        else:
            base = table.num_embeddings
            own = self.words[(ids - base).clamp(min=0)]
            embedded = torch.where((ids >= base).unsqueeze(-1), own, table(ids.clamp(max=base - 1)))
        if self.token is None:
            return embedded
        first = (
            torch.zeros_like(embedded[:, :1]) + self.token
        )  # an expand() would fix the batch in a traced graph
        return torch.cat([first, embedded[:, 1:]], dim=1)


def make_rows(config: Any) -> nn.ModuleList | None:
    """One `InputRows` per expert, where the configuration has any."""
    if not config.has_rows:
        return None
    tokens, words = config.domain_tokens, config.vocabulary
    return nn.ModuleList(
        InputRows(config.hidden_size, token=name in tokens, words=len(words.get(name, ())))
        for name in config.experts
    )


class ExpertModel:
    """Mixin of a family's model; comes before the library's class."""

    config: Any
    input_rows: nn.ModuleList | None
    takes_token_types = True

    @property
    def expert_layers(self) -> list[tuple[int, Any]]:
        """Number and module of each layer that has experts."""
        own: Any = self
        stack = own.layers if hasattr(self, "layers") else own.encoder.layer
        return [(number, layer) for number, layer in enumerate(stack) if layer.experts is not None]

    def forward(
        self,
        input_ids: Tensor | None = None,  # (batch, tokens)
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        expert_ids: Tensor | None = None,
        domain: str | None = None,
        fan_out: Tensor | None = None,
        expert_labels: Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """The outputs of the family's model, in the order of the inputs.

        Args:
            input_ids: tokens; this or `inputs_embeds`.
            attention_mask: 1 for tokens, 0 for padding; None: no padding.
            token_type_ids: as in BERT; with routing "token_types", the expert of each token.
            position_ids: as in the family.
            inputs_embeds: embedded tokens, (batch, tokens, width).
            expert_ids: expert of each text, (batch,), or token, (batch, tokens); None: the first.
            domain: in place of `expert_ids`, a domain of the configuration; its expert computes every text.
            fan_out: experts, (n,), under each of which every text is computed: rows come out (n * batch),
                expert by expert, and the layers below the first one with experts run once.
            expert_labels: the expert that a learned gate should choose for each text, (batch,).
            return_dict: False gives a tuple.
            kwargs: passed on to the family's model.

        Raises:
            ValueError: `expert_ids` or `expert_labels` has another shape, or names an expert that the model
                does not have; two of the arguments contradict each other.
        """
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None:
            raise ValueError("give input_ids or inputs_embeds")
        self._check_choice(expert_ids, fan_out, expert_labels, texts=len(given))
        if domain is not None and not self.config.learned:
            expert_ids = torch.full((len(given),), expert_of(self.config, domain))
        if self.config.routing == "token_types":
            expert_ids = token_type_ids if expert_ids is None else expert_ids
            token_type_ids = None
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids}
        inputs["inputs_embeds"] = inputs_embeds
        if self.takes_token_types:
            inputs["token_type_ids"] = token_type_ids
        # where experts differ in the first layer's input, or no layer has any, no layer repeats the batch
        if fan_out is not None and (self.input_rows is not None or not self.config.moe_layers):
            inputs, expert_ids, fan_out = _repeated(inputs, fan_out), _blocks(fan_out, len(given)), None
        rows = next(value for value in (inputs["input_ids"], inputs["inputs_embeds"]) if value is not None)
        plan = self._plan(rows, expert_ids, fan_out, attention_mask)
        inputs = self._embedded(_sorted(inputs, plan), plan)
        out = super().forward(**inputs, expert_plan=plan, return_dict=True, **kwargs)  # type: ignore[misc]
        _unsort(out, plan)
        if plan.gates:
            out = self._with_losses(out, plan, expert_labels)
        as_dict = self.config.return_dict if return_dict is None else return_dict
        return out if as_dict else out.to_tuple()

    def _check_choice(
        self, expert_ids: Tensor | None, fan_out: Tensor | None, labels: Tensor | None, *, texts: int
    ) -> None:
        if self.config.learned:
            if expert_ids is not None or fan_out is not None:
                raise ValueError("a learned gate chooses the experts; leave expert_ids out")
            if labels is not None:
                check_labels(labels, texts=texts, experts=len(self.config.experts))
        elif fan_out is not None and (expert_ids is not None or not fan_out.numel()):
            raise ValueError("fan_out takes one expert or more, and no expert_ids beside it")

    def _plan(
        self, given: Tensor, expert_ids: Tensor | None, fan_out: Tensor | None, mask: Tensor | None
    ) -> Plan:
        count = len(self.config.experts)
        if self.config.learned:
            return Plan((), valid=mask)
        if fan_out is not None:
            return plan_fan_out(fan_out, batch=given.shape[0], experts=count)
        if expert_ids is not None and expert_ids.dim() > 1 and self.input_rows is not None:
            raise ValueError("experts with tokens of their own take expert_ids of shape (batch,)")
        return plan_experts(
            expert_ids, batch=(given.shape[0], given.shape[1]), experts=count, device=given.device
        )

    def _embedded(self, inputs: dict[str, Tensor | None], plan: Plan) -> dict[str, Tensor | None]:
        """Inputs with ids embedded here, where experts have rows of their own; texts are sorted by expert."""
        ids = inputs["input_ids"]
        if self.input_rows is None:
            return inputs
        if ids is None:
            raise ValueError("experts with tokens of their own need input_ids")
        table = self.get_input_embeddings()  # type: ignore[attr-defined]
        if len(plan.slices) <= 1:
            only = plan.slices[0].expert if plan.slices else 0
            embedded = self.input_rows[only](ids, table)
        else:
            parts = (self.input_rows[part.expert](ids[part.start : part.stop], table) for part in plan.slices)
            embedded = torch.cat(list(parts))
        positions = inputs["position_ids"]
        positions = self.positions_of(ids) if positions is None else positions
        return {**inputs, "input_ids": None, "inputs_embeds": embedded, "position_ids": positions}

    def positions_of(self, ids: Tensor) -> Tensor | None:
        """Positions that the family would read off the ids themselves; None: it does not."""
        return None

    def _with_losses(self, out: Any, plan: Plan, labels: Tensor | None) -> RoutedOutput:
        gates = plan.gates[: len(self.config.moe_layers)]  # a checkpointed layer adds its logits once more
        if any(gate.requires_grad for gate in self._gate_weights()) and torch.is_grad_enabled():
            _check_grad(gates)
        losses = router_losses(
            gates,
            valid=plan.valid,
            labels=labels,
            by_token=self.config.routing == "token",
            k=self.config.top_k,
        )
        return RoutedOutput(
            **{name: value for name, value in out.items() if name in RoutedOutput.__annotations__},
            router_logits=tuple(gates),
            load_balance_loss=losses.load_balance,
            mutual_information_loss=losses.mutual_information,
            specified_expert_loss=losses.specified_expert,
        )

    def _gate_weights(self) -> list[Tensor]:
        modules: Any = self.modules()  # type: ignore[attr-defined]
        return [module.weight for module in modules if isinstance(module, Gate)]

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[misc]
        if isinstance(module, Growth):
            init.zeros_(module.weight)
            init.ones_(module.bias)
        elif isinstance(module, Gate):
            init.copy_(module.weight, Gate(self.config).weight)
        elif isinstance(module, LowRankLinear):
            init.zeros_(module.up)


def expert_of(config: Any, domain: str) -> int:
    """Number of the expert that a domain uses; "general" is always one.

    Raises:
        ValueError: the model has no such domain.
    """
    if domain != "general" and domain not in config.domains:
        known = ", ".join(sorted(config.domains)) or "no others"
        raise ValueError(f"the model has no domain {domain!r}; it has general and {known}")
    number: int = config.experts.index(config.domains.get(domain, "general"))
    return number


def _check_grad(gates: list[Tensor]) -> None:
    if not all(logits.requires_grad for logits in gates):
        raise ValueError(
            "reentrant checkpointing hides the gates from their losses: "
            "activation_checkpointing_enable(activation_checkpointing_kwargs={'use_reentrant': False})"
        )


def _repeated(inputs: dict[str, Tensor | None], fan_out: Tensor) -> dict[str, Tensor | None]:
    count = fan_out.numel()
    return {
        name: value if value is None else value.repeat(count, *[1] * (value.dim() - 1))
        for name, value in inputs.items()
    }


def _blocks(fan_out: Tensor, batch: int) -> Tensor:
    return fan_out.reshape(-1).repeat_interleave(batch)


def _sorted(inputs: dict[str, Tensor | None], plan: Plan) -> dict[str, Tensor | None]:
    """Inputs with their texts sorted by expert, once for all layers."""
    if plan.order is None or plan.by_token:
        return inputs
    rows = plan.order.numel()
    # position_ids may be one row for all texts
    return {
        name: value[plan.order] if value is not None and value.shape[0] == rows else value
        for name, value in inputs.items()
    }


def _unsort(out: Any, plan: Plan) -> None:
    """Give every tensor of a model output, captured hidden states included, the callers' order back."""
    if plan.inverse is None or plan.by_token:
        return
    for name, value in list(out.items()):
        out[name] = (
            tuple(part[plan.inverse] for part in value) if isinstance(value, tuple) else value[plan.inverse]
        )
