"""Group norm whose second derivative is three sums and five products of whole maps, alone or under vmap.

With xhat = (x - m) r, r = 1 / sqrt(variance + eps) in each group of M values, and y = gain xhat + offset:

    P(v) = v - mean(v) - xhat mean(v xhat)          the projection that every derivative goes through
    gradient of x       r P(gain g)                 for the gradient g of y
    its derivative by x, along h
        -r^2 (b h + a gain g + xhat q - b mean(h) - a mean(gain g)),
        a = mean(h xhat), b = mean(gain g xhat), q = mean(h gain g) - mean(h) mean(gain g) - 3 a b

The last is symmetric in its three maps, so the backward pass and the tangent share it. Sums over pixels are
taken first; all else is arithmetic of one value a channel, until one pass adds up the maps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from landmeta.learning.kernels.calling import call
from landmeta.learning.kernels.convolution import each_image


def _sum(maps: Tensor) -> Tensor:
    return maps.sum(dim=(-2, -1), keepdim=True)


class _Layer(NamedTuple):
    """Images x (..., n, channel, y, x), gain (..., 1 or n, channel, 1, 1), and the moments of the groups."""

    x: Tensor
    gain: Tensor
    m: Tensor
    r: Tensor

    def mean(self, sums: Tensor, groups: int) -> Tensor:
        """Mean of a group's values from the sums of its channels, for each channel of the group."""
        return _group_mean(sums, self.x, groups)

    def with_xhat(self, products: Tensor, sums: Tensor) -> Tensor:
        """Sums of maps times xhat, from those times x and alone."""
        return self.r * torch.addcmul(products, self.m, sums, value=-1)

    def over_images(self, sums: Tensor) -> Tensor:
        """Sums of the images that share their gain."""
        return sums.sum(dim=-4, keepdim=True) if self.gain.shape[-4] == 1 else sums.clone()


def _group_mean(sums: Tensor, x: Tensor, groups: int) -> Tensor:
    channels, pixels = x.shape[-3], x.shape[-2] * x.shape[-1]
    if groups == channels:
        return sums / pixels
    in_groups = sums.unflatten(-3, (groups, -1))
    means = in_groups.sum(dim=-3, keepdim=True) / (pixels * (channels // groups))
    spread: Tensor = means.expand_as(in_groups).flatten(-4, -3)
    return spread


class _OverTasks(Function):
    """Under vmap the tasks' axis goes in front of all others, of length one where tasks share the tensor."""

    outputs: int

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept by those that are not derived any further."""
        del ctx, inputs, output

    @classmethod
    def over_tasks(cls, axes: tuple[int | None, ...], inputs: tuple[Any, ...]) -> tuple[Any, tuple[int, ...]]:
        """The `vmap` of a leaf."""
        moved = [
            v if not isinstance(v, Tensor) else v.unsqueeze(0) if axis is None else v.movedim(axis, 0)
            for v, axis in zip(inputs, axes, strict=True)
        ]
        return call(cls, *moved), (0,) * cls.outputs


class _Normalize(_OverTasks):
    """x, gain, offset -> y, m, r."""

    outputs = 3

    @staticmethod
    def forward(
        x: Tensor, gain: Tensor, offset: Tensor, groups: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        m = _group_mean(_sum(x), x, groups)
        centred = x - m
        squares = centred * centred
        r = torch.rsqrt(_group_mean(_sum(squares), x, groups) + eps)
        return torch.addcmul(offset, centred, gain * r, out=squares), m, r

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int, float], output: tuple[Tensor, Tensor, Tensor]
    ) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:2], *output[1:])
        ctx.save_for_forward(*inputs[:2], *output[1:])
        ctx.groups = inputs[3]

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if g is None:
            return (None,) * 5
        gradients = call(_Gradient, *ctx.saved_tensors, g, ctx.groups)
        return gradients[0], gradients[1], gradients[2], None, None

    @staticmethod
    def jvp(
        ctx: Any, x: Tensor | None, gain: Tensor | None, offset: Tensor | None, *_: None
    ) -> tuple[Tensor, None, None]:
        saved = ctx.saved_tensors
        along = torch.zeros_like(saved[0]) if x is None else x
        sums = call(_Sums, saved[0], along)
        total = call(_Project, *saved, along, *sums, gain, offset, ctx.groups)
        return total, None, None

    @staticmethod
    def vmap(info: Any, axes: tuple[int | None, ...], *inputs: Any) -> tuple[Any, tuple[int, ...]]:
        del info
        return _Normalize.over_tasks(axes, inputs)


class _Gradient(_OverTasks):
    """x, gain, m, r, g -> gradients of x, gain and offset, and the sums of g alone and with xhat."""

    outputs = 5

    @staticmethod
    def forward(
        x: Tensor, gain: Tensor, m: Tensor, r: Tensor, g: Tensor, groups: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        layer, alone, products = _Layer(x, gain, m, r), _sum(g), g * x
        with_xhat = layer.with_xhat(_sum(products), alone)
        by_x = -r * r * layer.mean(gain * with_xhat, groups)
        constant = -r * layer.mean(gain * alone, groups) - m * by_x
        gradient = torch.addcmul(constant, g, gain * r, out=products).addcmul_(x, by_x)
        return gradient, layer.over_images(with_xhat), layer.over_images(alone), alone, with_xhat

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[3:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:5], *output[3:])
        ctx.save_for_forward(*inputs[:5], *output[3:])
        ctx.groups = inputs[5]

    @staticmethod
    def backward(
        ctx: Any, h: Tensor | None, gain: Tensor | None, offset: Tensor | None, *_: None
    ) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        along = torch.zeros_like(saved[0]) if h is None else h
        sums = call(_Sums, saved[0], along)
        to_x, to_gain = call(_Bend, *saved, along, *sums, gain, ctx.groups)
        wanted = ctx.needs_input_grad[4]
        to_g = call(_Project, *saved[:4], along, *sums, gain, offset, ctx.groups) if wanted else None
        return to_x, to_gain, None, None, to_g, None

    @staticmethod
    def jvp(
        ctx: Any, x: Tensor | None, gain: Tensor | None, _m: None, _r: None, g: Tensor | None, _: None
    ) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        along = torch.zeros_like(saved[0]) if x is None else x
        total, to_gain = call(_Bend, *saved, along, *call(_Sums, saved[0], along), gain, ctx.groups)
        if g is None:
            return total, to_gain, torch.zeros_like(to_gain), None, None
        straight = call(_Gradient, *saved[:4], g, ctx.groups)
        return total + straight[0], to_gain + straight[1], straight[2], None, None

    @staticmethod
    def vmap(info: Any, axes: tuple[int | None, ...], *inputs: Any) -> tuple[Any, tuple[int, ...]]:
        del info
        return _Gradient.over_tasks(axes, inputs)


class _Sums(_OverTasks):
    """Images and maps h -> sums of h alone and times the images. Not derived."""

    outputs = 2

    @staticmethod
    def forward(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return _sum(h), _sum(h * x)

    @staticmethod
    def vmap(info: Any, axes: tuple[int | None, ...], *inputs: Any) -> tuple[Any, tuple[int, ...]]:
        del info
        return _Sums.over_tasks(axes, inputs)


class _Project(_OverTasks):
    """Images, maps h with their sums -> gain r P(h), and tangents of gain times xhat and of the offset."""

    outputs = 1

    @staticmethod
    def forward(
        x: Tensor,
        gain: Tensor,
        m: Tensor,
        r: Tensor,
        h: Tensor,
        sums: Tensor,
        with_x: Tensor,
        gain_along: Tensor | None,
        offset_along: Tensor | None,
        groups: int,
    ) -> Tensor:
        layer = _Layer(x, gain, m, r)
        a = layer.mean(layer.with_xhat(with_x, sums), groups)
        scale = gain * r
        by_x = -scale * r * a if gain_along is None else r * (gain_along - scale * a)
        constant = -scale * layer.mean(sums, groups) - m * by_x
        if offset_along is not None:
            constant = constant + offset_along
        return torch.addcmul(constant, h, scale).addcmul_(x, by_x)

    @staticmethod
    def vmap(info: Any, axes: tuple[int | None, ...], *inputs: Any) -> tuple[Any, int]:
        del info
        return _Project.over_tasks(axes, inputs)[0], 0


class _Bend(_OverTasks):
    """What the gradients of x and of the gain change by, along maps h in x and a tangent of the gain."""

    outputs = 2

    @staticmethod
    def forward(
        x: Tensor,
        gain: Tensor,
        m: Tensor,
        r: Tensor,
        g: Tensor,
        alone: Tensor,
        with_xhat: Tensor,
        h: Tensor,
        sums: Tensor,
        with_x: Tensor,
        gain_along: Tensor | None,
        groups: int,
    ) -> tuple[Tensor, Tensor]:
        layer, products = _Layer(x, gain, m, r), h * g
        h_mean = layer.mean(sums, groups)
        a = layer.mean(layer.with_xhat(with_x, sums), groups)
        hg = _sum(products)
        g_mean, b = layer.mean(gain * alone, groups), layer.mean(gain * with_xhat, groups)
        squared = r * r
        q = layer.mean(gain * hg, groups) - h_mean * g_mean - 3 * a * b
        by_g, by_x = -squared * a * gain, -squared * r * q
        constant = squared * (b * h_mean + a * g_mean)
        if gain_along is not None:  # r P(gain_along g)
            by_g = by_g + r * gain_along
            by_x = by_x - squared * layer.mean(gain_along * with_xhat, groups)
            constant = constant - r * layer.mean(gain_along * alone, groups)
        total = torch.addcmul(constant - m * by_x, h, -squared * b, out=products)
        to_gain = r * (hg - h_mean * alone - a * with_xhat)
        return total.addcmul_(g, by_g).addcmul_(x, by_x), layer.over_images(to_gain)

    @staticmethod
    def vmap(info: Any, axes: tuple[int | None, ...], *inputs: Any) -> tuple[Any, tuple[int, ...]]:
        del info
        return _Bend.over_tasks(axes, inputs)


def normalize_groups(
    images: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """`torch.group_norm` of images (n, channel, y, x).

    Weight and bias (task, channel) are each for a task's share of the images, as in `convolve`.
    """
    shape = (1, images.shape[1])
    gain = images.new_ones(()).expand(shape) if weight is None else weight
    offset = images.new_zeros(()).expand(shape) if bias is None else bias
    gain, offset = (each_image(v, len(images)).unflatten(-1, (-1, 1, 1)) for v in (gain, offset))
    if gain.dim() == 3:
        gain, offset = gain[None], offset[None]
    normalized: Tensor = call(_Normalize, images, gain, offset, groups, eps)[0]
    return normalized
