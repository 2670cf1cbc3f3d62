"""A gated delta net of transformers that can begin at the state another sequence has left."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoomzero.policy.local.attention.recurrent import State, last_inputs

_KINDS: dict[type, type] = {}


def install(layers: Any) -> None:
    """Let the recurrent layers of a text model be asked for forked states. Safe to call again.

    Weights, names and the model's own forward stay: only calls that bring an `attention_pass` come here.
    """
    for layer in layers:
        net = getattr(layer, "linear_attn", None)
        if net is not None and not isinstance(net, ForkedDeltaNet):
            kind = type(net)
            if kind not in _KINDS:
                _KINDS[kind] = type(f"Forked{kind.__name__}", (ForkedDeltaNet, kind), {})
            net.__class__ = _KINDS[kind]
            _settle(net)


@torch.no_grad()
def _settle(net: Any) -> None:
    """Let transformers say once, unseen, which kernels it has: `zoomzero doctor` tells the user."""
    from zoomzero.policy.quiet import quiet

    if net.A_log.is_meta:
        return
    with quiet():
        for length in (1, 2):
            x = net.in_proj_qkv.weight.new_zeros(1, length, net.conv_dim)
            gate = x.new_zeros(1, length, net.num_v_heads)
            net.mix(x, gate, gate, None, None)


def pick_rule(device: str, dtype: torch.dtype, length: int, learning: bool) -> tuple[str, bool]:
    """Return the name of transformers' function for some sequences, and whether its fast kernel takes them.

    Args:
        device: its kind; the kernels (flash-linear-attention) are for GPUs.
        dtype: of queries, keys and values; the kernel that goes in chunks does not take float32.
        length: of the sequences.
        learning: whether gradients are wanted; the kernel for single tokens has no backward pass.
    """
    fast = device != "cpu" and dtype in (torch.bfloat16, torch.float16)
    alone = length == 1 and not (fast and learning)
    return "torch_recurrent_gated_delta_rule" if alone else "torch_chunk_gated_delta_rule", fast


class ForkedDeltaNet(torch.nn.Module):
    """The part of the layer that is ours; the rest is the transformers class it is mixed into."""

    def forward(self, hidden_states: Tensor, *args: Any, attention_pass: Any = None, **kwargs: Any) -> Tensor:
        """Run the layer, (B, L, D) -> (B, L, D); with an `attention_pass`, which decides what goes on from what."""
        net: Any = self
        if attention_pass is None:
            own: Tensor = super().forward(hidden_states, *args, **kwargs)
            return own
        x, z = net.in_proj_qkv(hidden_states), net.in_proj_z(hidden_states)
        beta = net.in_proj_b(hidden_states).sigmoid()
        decay = -net.A_log.float().exp() * F.softplus(net.in_proj_a(hidden_states).float() + net.dt_bias)
        out = attention_pass.recur(net.layer_idx, x, decay, beta, self.mix)
        normed = net.norm(out.reshape(-1, net.head_v_dim), z.reshape(-1, net.head_v_dim))
        projected: Tensor = net.out_proj(normed.reshape(*hidden_states.shape[:2], -1))
        return projected

    def mix(
        self, x: Tensor, decay: Tensor, beta: Tensor, begin: State | None, lengths: Tensor | None
    ) -> tuple[Tensor, State]:
        """Convolve and remember; see `recurrent.Mixer` for the shapes."""
        net: Any = self
        older = net.conv_kernel_size - 1
        before = x.new_zeros(len(x), older, x.shape[2]) if begin is None else begin[0].to(x.dtype)
        inputs = torch.cat([before, x], 1)  # (n, K - 1 + L, C)
        weight = net.conv1d.weight
        mixed = F.conv1d(inputs.transpose(1, 2).to(weight.dtype), weight, net.conv1d.bias, groups=x.shape[2])
        mixed = F.silu(mixed).transpose(1, 2).to(x.dtype)
        q, k, v = torch.split(mixed, [net.key_dim, net.key_dim, net.value_dim], -1)
        learning = torch.is_grad_enabled() and any(part.requires_grad for part in (x, decay, beta))
        name, fast = pick_rule(x.device.type, mixed.dtype, x.shape[1], learning)
        # the modelling file's own function: where a package is installed a fast kernel, with its plain twin inside
        rule = getattr(sys.modules[type(self).__mro__[2].__module__], name)
        rows = x.shape[:2]
        out, memory = (rule if fast else getattr(rule, "__wrapped__", rule))(
            q.reshape(*rows, -1, net.head_k_dim),
            k.reshape(*rows, -1, net.head_k_dim),
            v.reshape(*rows, -1, net.head_v_dim),
            g=decay,
            beta=beta,
            initial_state=None if begin is None else begin[1],
            output_final_state=True,
            use_qk_l2norm_in_kernel=True,
        )
        return out, (last_inputs(inputs, older, lengths), memory)
