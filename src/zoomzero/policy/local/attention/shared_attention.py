"""Attention of many short suffixes over one shared prefix, exact and with gradients, without copying the
prefix.

The prefix part and the suffix part are two ordinary attentions; their results are joined by their
log-sum-exp: `out = sum_i exp(lse_i - lse) out_i`, `lse = logsumexp_i(lse_i)`. Grouped query heads are folded
into the length of the query, so that keys and values are read as they are. The backward pass of each part is
the flash backward with the JOINED output and log-sum-exp, which is the exact gradient of the joined softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoomzero.policy.local.machine import Kernel, attention_kernel

aten = torch.ops.aten
LSE_BLOCK = 32  # the memory-efficient kernel pads its log-sum-exp to a multiple of so many queries


def kernel_of(query: Tensor) -> Kernel:
    """Return the fused attention that takes this query; see `machine.attention_kernel`."""
    capability = torch.cuda.get_device_capability(query.device) if query.device.type == "cuda" else None
    return attention_kernel(query.device.type, capability, query.dtype, query.shape[-1])


def _forward(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
    """Attend and return (out, lse (B, H, T) float32, what the backward needs beside them)."""
    kernel = kernel_of(q)
    if kernel == "cpu":
        flash = aten._scaled_dot_product_flash_attention_for_cpu
        out, lse = flash(q, k, v, 0.0, causal, attn_mask=mask, scale=scale)
        return out, lse, ()
    if kernel == "efficient":
        efficient = aten._scaled_dot_product_efficient_attention
        out, lse, *rest = efficient(q, k, v, None, True, 0.0, causal, scale=scale)
        return out, lse[..., : q.shape[2]], tuple(rest)  # it comes padded, see `LSE_BLOCK`
    out, lse, *rest = aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal, False, scale=scale)
    return out, lse, tuple(rest[:6])


def _plain_forward(
    q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
    """The non-causal case of `_forward` in ordinary steps, for devices whose fused kernels do not do it."""
    scores = q.float() @ k.float().transpose(-1, -2) * scale
    if mask is not None:
        scores = scores + mask
    return (scores.softmax(-1) @ v.float()).to(q.dtype), scores.logsumexp(-1), ()


def _backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    causal: bool,
    scale: float,
    rest: tuple[Any, ...],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of (q, k, v) of one part, given the joined `out` and `lse`."""
    kernel = kernel_of(q)
    if kernel == "efficient":  # a weight is exp(score - lse): padding must be inf
        lse = F.pad(lse, (0, -lse.shape[2] % LSE_BLOCK), value=float("inf"))
    grad, q, k, v, out, lse = (x.contiguous() for x in (grad, q, k, v, out, lse))
    if kernel == "cpu":
        flash = aten._scaled_dot_product_flash_attention_for_cpu_backward
        dq, dk, dv = flash(grad, q, k, v, out, lse, 0.0, causal, scale=scale)
    elif kernel == "efficient":
        efficient = aten._scaled_dot_product_efficient_attention_backward
        wanted = [True, True, True, False]
        dq, dk, dv, _ = efficient(grad, q, k, v, None, out, lse, *rest, 0.0, wanted, causal, scale=scale)
    else:
        cum_q, cum_k, max_q, max_k, seed, offset = rest
        flash = aten._scaled_dot_product_flash_attention_backward
        dq, dk, dv = flash(
            *(grad, q, k, v, out, lse), cum_q, cum_k, max_q, max_k, 0.0, causal, seed, offset, scale=scale
        )
    return dq, dk, dv


def fold_heads(x: Tensor, kv_heads: int) -> Tensor:
    """(B, H, T, ...) -> (B, kv_heads, H/kv_heads * T, ...): heads that share keys become rows of one head."""
    return x.reshape(x.shape[0], kv_heads, -1, *x.shape[3:])


def unfold_heads(x: Tensor, heads: int) -> Tensor:
    """The inverse of `fold_heads`: (B, kv_heads, R * T, ...) -> (B, H, T, ...)."""
    return x.reshape(x.shape[0], heads, -1, *x.shape[3:])


def attend_all(
    q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
    """Let every query see every key.

    Args:
        q: (B, H, T, d).  k, v: (B, Hkv, P, d).
        scale: what scores are multiplied by.
        mask: (B, 1, 1, P) added to the scores: -inf hides a key from all queries.

    Returns:
        out (B, H, T, d), lse (B, H, T) float32, and what the backward needs.
    """
    folded = fold_heads(q, k.shape[1])
    kernel = kernel_of(q)
    if kernel == "cpu" or (kernel != "plain" and mask is None):
        out, lse, rest = _forward(folded, k, v, False, scale, mask)
    else:
        out, lse, rest = _plain_forward(folded, k, v, scale, mask)
    return unfold_heads(out, q.shape[1]), unfold_heads(lse, q.shape[1]), rest


def join(outs: Sequence[Tensor], lses: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Join attentions of the same queries over disjoint keys into the attention over all of them."""
    lse = lses[0]
    for other in lses[1:]:
        lse = torch.logaddexp(lse, other)
    parts = [(part_lse - lse).exp().unsqueeze(-1) * out.float() for out, part_lse in zip(outs, lses, strict=True)]
    return torch.stack(parts).sum(0).to(outs[0].dtype), lse


def attend_own(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    scale: float,
    shared_out: Tensor,
    shared_lse: Tensor,
    mask: Tensor | None = None,
) -> Tensor:
    """Add each row's own keys to an attention of the same queries over shared ones: one softmax over all.

    Args:
        q: (m, H, 1, d).  keys, values: (m, Hkv, S, d), each row's own.
        scale: what scores are multiplied by.
        shared_out: (m, H, 1, d).  shared_lse: (m, H, 1) float32.
        mask: (S,) float32 added to the scores of own keys.

    Returns:
        (m, H, 1, d).
    """
    rows, kv_heads, length, width = keys.shape
    query = q.reshape(rows * kv_heads, -1, width)  # (m*Hkv, share, d)
    k, v = (x.reshape(rows * kv_heads, length, width) for x in (keys, values))
    scores = _float_product(query, k.transpose(1, 2)) * scale
    if mask is not None:
        scores = scores + mask
    weights = torch.cat([shared_lse.reshape(rows * kv_heads, -1, 1), scores], -1).softmax(-1)  # (m*Hkv, share, 1 + S)
    own = (weights[..., 1:].to(v.dtype) @ v).float()
    out = torch.addcmul(own, weights[..., :1], shared_out.reshape(rows * kv_heads, -1, width).float())
    return out.to(q.dtype).reshape(q.shape)


def _float_product(a: Tensor, b: Tensor) -> Tensor:
    """Return the float32 product of batches of matrices, without float32 copies of them where the device can."""
    if kernel_of(a) == "flash":
        return torch.bmm(a, b, out_dtype=torch.float32)
    with torch.autocast(a.device.type, enabled=False):
        return a.float() @ b.float()


class Ragged:
    """Moves a row of suffixes laid end to end to a right-padded batch and back; some may be empty, not all.

    With right padding and causal attention no token sees padding, so no mask is needed.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.count, self.longest = len(lengths), max(lengths)
        self.even = min(lengths) == self.longest
        if not self.even:
            sizes = torch.tensor(lengths, device=device)
            step = torch.arange(self.longest, device=device)
            self.real = step < sizes[:, None]  # (G, S) bool, True = a token
            first = (sizes.cumsum(0) - sizes).clamp(max=sum(lengths) - 1)[:, None]  # the last may hold nothing
            self.source = torch.where(self.real, first + step, first).flatten()  # (G*S,)
            self.target = self.real.flatten().nonzero()[:, 0]  # (T,)
        self._elsewhere: dict[torch.device, Ragged] = {}

    def on(self, device: torch.device) -> Ragged:
        """Return the same on a device: layers of one model may lie on several GPUs."""
        if self.even or self.source.device == device:
            return self
        if device not in self._elsewhere:
            found = self._elsewhere[device] = copy(self)
            found.real, found.source, found.target = (x.to(device) for x in (self.real, self.source, self.target))
        return self._elsewhere[device]

    def pad(self, x: Tensor) -> Tensor:
        """(1, H, T, ...) -> (G, H, S, ...); padding repeats the suffix's first token."""
        if not self.even:
            x = x.index_select(2, self.source)
        return x.reshape(x.shape[1], self.count, self.longest, *x.shape[3:]).transpose(0, 1)

    def unpad(self, x: Tensor) -> Tensor:
        """(G, H, S, ...) -> (1, H, T, ...)."""
        x = x.transpose(0, 1).reshape(1, x.shape[1], self.count * self.longest, *x.shape[3:])
        return x if self.even else x.index_select(2, self.target)

    def pad_with(self, x: Tensor, value: float) -> Tensor:
        """`pad`, with padding of one value."""
        padded = self.pad(x)
        if self.even:
            return padded
        real = self.real[:, None].reshape(self.count, 1, self.longest, *[1] * (x.ndim - 3))
        return padded.masked_fill(~real, value)


class SuffixAttention(torch.autograd.Function):
    """Suffix tokens see whole segments and, causally, their own suffix.

    Forward args: q (1, H, T, d), k and v (1, Hkv, T, d) of the suffixes laid end to end, `ragged` their
    lengths, scale, then the segments' keys and values, each (1, Hkv, P, d), as k1, v1, k2, v2, ... Returns
    (1, H, T, d).
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, ragged: Ragged, scale: float, *segments: Tensor) -> Tensor:
        """Attend to every part and join."""
        share = q.shape[1] // k.shape[1]
        own_k, own_v = (ragged.pad(x).repeat_interleave(share, 1) for x in (k, v))
        out, lse, rest = _forward(ragged.pad(q), own_k, own_v, True, scale)
        outs, lses, rests = [ragged.unpad(out)], [ragged.unpad(lse)], [rest]
        for key, value in zip(segments[::2], segments[1::2], strict=True):
            out, lse, rest = attend_all(q, key, value, scale)
            outs.append(out)
            lses.append(lse)
            rests.append(rest)
        out, lse = join(outs, lses)
        ctx.save_for_backward(q, k, v, out, lse, *segments)
        ctx.ragged, ctx.scale, ctx.rests = ragged, scale, rests
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Flash backward of each part with the joined output and log-sum-exp."""
        q, k, v, out, lse, *segments = ctx.saved_tensors
        ragged, scale, (grad,) = ctx.ragged, ctx.scale, grads
        heads, kv_heads = q.shape[1], k.shape[1]
        share = heads // kv_heads
        own_k, own_v = (ragged.pad(x).repeat_interleave(share, 1) for x in (k, v))
        # padding must give nothing: no gradient comes in, and a weight exp(score - inf) is 0
        grad_own, lse_own = ragged.pad_with(grad, 0.0), ragged.pad_with(lse, float("inf"))
        dq, dk, dv = _backward(
            grad_own, ragged.pad(q), own_k, own_v, ragged.pad(out), lse_own, True, scale, ctx.rests[0]
        )
        grad_q = ragged.unpad(dq).float()
        shape = (ragged.count, kv_heads, share, ragged.longest, -1)
        grad_k, grad_v = (ragged.unpad(x.reshape(shape).sum(2)) for x in (dk, dv))
        folded = [fold_heads(x, kv_heads) for x in (grad, q, out, lse)]
        grad_segments: list[Tensor] = []
        for i, (key, value) in enumerate(zip(segments[::2], segments[1::2], strict=True)):
            dq, dk, dv = _backward(
                folded[0], folded[1], key, value, folded[2], folded[3], False, scale, ctx.rests[i + 1]
            )
            grad_q = grad_q + unfold_heads(dq, heads)
            grad_segments += [dk, dv]
        return (grad_q.to(q.dtype), grad_k, grad_v, None, None, *grad_segments)


def plain_suffix_attention(q: Tensor, k: Tensor, v: Tensor, ragged: Ragged, scale: float, *segments: Tensor) -> Tensor:
    """The same attention in ordinary differentiable steps, for devices without the fused kernels."""
    share = q.shape[1] // k.shape[1]
    own_q = ragged.pad(q).float()
    own_k = ragged.pad(k).repeat_interleave(share, 1).float()
    own = own_q @ own_k.transpose(-1, -2) * scale  # (G, H, S, S)
    future = torch.ones(own.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    scores = [own.masked_fill(future, float("-inf"))]
    values = [ragged.pad(v).repeat_interleave(share, 1).float()]
    for key, value in zip(segments[::2], segments[1::2], strict=True):
        scores.append(own_q @ key.repeat_interleave(share, 1).float().transpose(-1, -2) * scale)
        values.append(value.repeat_interleave(share, 1).float())
    weights = torch.split(torch.cat(scores, -1).softmax(-1), [s.shape[-1] for s in scores], -1)
    out = sum((w @ x for w, x in zip(weights, values, strict=True)), torch.zeros_like(own_q))
    return ragged.unpad(out).to(q.dtype)


def suffix_attention(q: Tensor, k: Tensor, v: Tensor, ragged: Ragged, scale: float, *segments: Tensor) -> Tensor:
    """Attend suffixes to shared segments and to themselves; see `SuffixAttention` for the shapes."""
    ragged = ragged.on(q.device)
    if kernel_of(q) == "plain":
        return plain_suffix_attention(q, k, v, ragged, scale, *segments)
    apply: Any = SuffixAttention.apply
    out: Tensor = apply(q, k, v, ragged, scale, *segments)
    return out


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Plain causal attention of whole sequences: q (N, H, P, d), k and v (N, Hkv, P, d) -> (N, H, P, d)."""
    share = q.shape[1] // k.shape[1]
    if share > 1 and kernel_of(q) != "flash":  # grouped heads would leave the other fused kernels
        k, v = k.repeat_interleave(share, 1), v.repeat_interleave(share, 1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=k.shape[1] != q.shape[1])
