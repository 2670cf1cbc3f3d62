"""One token of each row through the text model, written out: what decoding does thousands of times.

Equal to the text model's own forward for rows of one token, without its masks, caches and output records, and with
fewer, larger operations, so that a step is bound by reading weights and not by launching kernels. Linear layers and
the multilayer perceptron are the model's own modules: adapters in them work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoomzero.policy.local.attention.group_attention import AttentionPass

if TYPE_CHECKING:
    from zoomzero.policy.local.families.base import Family

Step = Callable[[Any, Tensor, Tensor, AttentionPass], Tensor]


def fast_step(family: type[Family], text: Any) -> Step | None:
    """Return a written-out step that gives what the text model's own forward gives, None where there is none.

    None too when something watches or moves the text model's modules (sharded training, offloading).
    """
    found = family.step()
    if found is None:
        return None
    watched = any(
        module._forward_hooks or module._forward_pre_hooks or hasattr(module, "_hf_hook") for module in text.modules()
    )
    return None if watched else found


def can_record(family: type[Family], text: Any) -> bool:
    """Return whether a step may be recorded as a CUDA graph: nothing in it may depend on values the host must read."""
    rope_type = str(getattr(text.rotary_emb, "rope_type", "default"))
    fixed = not any(kind in rope_type for kind in ("dynamic", "longrope"))
    return fixed and family.recordable(text.config) and fast_step(family, text) is not None


def plain_step(family: type[Family], text: Any, tokens: Tensor, positions: Tensor, attention: AttentionPass) -> Tensor:
    """The same through the model's own forward; see `step`."""
    hidden: Tensor = text(
        inputs_embeds=text.embed_tokens(tokens)[:, None],
        position_ids=family.text_positions(positions.expand(3, -1)[..., None]),  # (3, m, 1)
        use_cache=False,
        attention_pass=attention,
    ).last_hidden_state[:, 0]
    return hidden


def step(
    text: Any,
    tokens: Tensor,
    positions: Tensor,
    attention: AttentionPass,
    perceptron: Callable[[Any, Tensor], Tensor] = lambda module, x: module(x),
) -> Tensor:
    """Run one token of each row through the text model.

    Args:
        text: the text model.
        tokens: (m,) int64.
        positions: (m,) int64, a text token's position.
        attention: writes keys and values down and attends.
        perceptron: runs a layer's perceptron on (m, D).

    Returns:
        (m, D), the states that predict the next tokens.
    """
    x = text.embed_tokens(tokens)  # (m, D)
    cos, sin = text.rotary_emb(x, positions.expand(3, -1)[:, None])  # (1, m, d)
    cos, sin = cos[0][:, None], sin[0][:, None]  # (m, 1, d): the same for every head
    half = sin.shape[-1] // 2
    sin = torch.cat([-sin[..., :half], sin[..., half:]], -1)  # with this sign a rotation by half needs no negation
    for index, layer in enumerate(text.layers):
        x = x + _attend(layer.self_attn, index, _norm(layer.input_layernorm, x), cos, sin, attention)
        x = x + perceptron(layer.mlp, _norm(layer.post_attention_layernorm, x))
    return _norm(text.norm, x)


def _attend(block: Any, index: int, x: Tensor, cos: Tensor, sin: Tensor, attention: AttentionPass) -> Tensor:
    """Project, rotate, attend: (m, D) -> (m, D)."""
    rows, width = x.shape[0], block.head_dim
    q, k, v = (project(x).view(rows, -1, width) for project in (block.q_proj, block.k_proj, block.v_proj))
    if hasattr(block, "q_norm"):
        q, k = _norm(block.q_norm, q), _norm(block.k_norm, k)
    heads = q.shape[1]
    both = torch.cat([q, k], 1)  # (m, H + Hkv, d)
    both = torch.addcmul(both * cos, both.roll(width // 2, -1), sin).to(v.dtype)
    out = attention.attend(index, both[:, :heads, None], both[:, heads:, None], v[:, :, None], block.scaling)
    projected: Tensor = block.o_proj(out.reshape(rows, -1))
    return projected


def _norm(module: Any, x: Tensor) -> Tensor:
    """A model's RMS norm as one operation where number types allow."""
    if x.dtype != module.weight.dtype:  # under autocast
        normed: Tensor = module(x)
        return normed
    return F.rms_norm(x, (x.shape[-1],), module.weight, module.variance_epsilon)
