"""Convolution whose derivatives of every order are plain convolutions, alone or under a vmap over tasks.

Output, input gradient and weight gradient of a convolution are three bilinear maps, and the derivatives of
each are made of the other two. torch differentiates its own convolution twice by convolutions whose kernels
are as large as feature maps, and turns the weights of several tasks into channel groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from landmeta.learning.kernels.calling import call


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a kernel moves over the images, in (y, x), and the sizes that gradients cannot tell."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    images: tuple[int, ...]
    kernel: tuple[int, ...]
    tasks: int
    """How many weights there are, each for its share of the images; 0 for one weight without that axis."""

    def output(self, images: Tensor, weight: Tensor) -> Tensor:
        """The convolution of images with one weight."""
        return torch.conv2d(images, _lay(weight), None, self.stride, self.padding, self.dilation)

    def gradients(
        self, grad: Tensor, images: Tensor, weight: Tensor, *, of_images: bool, of_weight: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of the images and of one weight, each where it is wanted."""
        moves = (self.stride, self.padding, self.dilation)
        wanted = [of_images, of_weight, False]
        to_images, to_weight, _ = torch.ops.aten.convolution_backward(
            grad, images, weight, None, *moves, False, (0, 0), 1, wanted
        )
        return to_images, to_weight

    def images_gradient(self, grad: Tensor, weight: Tensor) -> Tensor:
        """The gradient of the images by one weight."""
        images = _sizes(grad, grad.shape[0], weight.shape[1], *self.images)
        gradient = self.gradients(grad, images, _lay(weight), of_images=True, of_weight=False)[0]
        assert gradient is not None
        return gradient

    def weight_gradient(self, images: Tensor, grad: Tensor) -> Tensor:
        """The gradient of one weight."""
        weight = _sizes(grad, grad.shape[1], images.shape[1], *self.kernel)
        gradient = self.gradients(grad, images, weight, of_images=False, of_weight=True)[1]
        assert gradient is not None
        return gradient


def _lay(values: Tensor) -> Tensor:
    """Channels last: the layout in which convolution and pooling run at full speed."""
    return values.contiguous(memory_format=torch.channels_last)


def _sizes(like: Tensor, *shape: int) -> Tensor:
    """A tensor of which only shape and layout are read."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _by_task(map_one: Callable[[Tensor, Tensor], Tensor], images: Tensor, weight: Tensor) -> Tensor:
    """A map of images and one weight, over all tasks; those that share their weight are taken at once."""
    if weight.dim() == 4:
        return map_one(images, weight)
    if weight.shape[0] == 1 or weight.stride(0) == 0:
        return map_one(images, weight[0])
    parts = zip(images.chunk(weight.shape[0]), weight, strict=True)
    return torch.cat([map_one(x, w) for x, w in parts])


def _fold(values: Tensor, task_axis: int) -> Tensor:
    return values.movedim(task_axis, 0).flatten(0, 1)


class _Bilinear(Function):
    """What the three maps share: their two factors, the product rule, and tasks one after the other."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Geometry], output: Tensor) -> None:
        del output
        ctx.save_for_backward(*inputs[:2])
        ctx.save_for_forward(*inputs[:2])
        ctx.geometry = inputs[2]

    @classmethod
    def product_rule(cls, ctx: Any, first: Tensor | None, second: Tensor | None) -> Tensor:
        """The tangent of the product, from those of its factors (None where a factor is constant)."""
        a, b = ctx.saved_tensors
        terms = [] if first is None else [call(cls, first, b, ctx.geometry)]
        if second is not None:
            terms.append(call(cls, a, second, ctx.geometry))
        total: Tensor = sum(terms[1:], terms[0])
        return total

    @classmethod
    def one_by_one(
        cls, tasks: int, axes: Sequence[int | None], factors: Sequence[Tensor], geometry: Geometry
    ) -> tuple[Tensor, int]:
        """The products of tasks that have nothing in common."""
        a, b = (
            [factor] * tasks if axis is None else factor.unbind(axis)
            for factor, axis in zip(factors, axes, strict=True)
        )
        return torch.stack([call(cls, x, y, geometry) for x, y in zip(a, b, strict=True)]), 0


class _Output(_Bilinear):
    """(images, weight) -> output."""

    @staticmethod
    def forward(images: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        return _by_task(geometry.output, _lay(images), weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        images, weight = ctx.saved_tensors
        if weight.dim() == 4 and not torch.is_grad_enabled():  # nobody differentiates further
            wanted = {"of_images": ctx.needs_input_grad[0], "of_weight": ctx.needs_input_grad[1]}
            return *ctx.geometry.gradients(_lay(grad), _lay(images), _lay(weight), **wanted), None
        to_images = call(_InputGradient, grad, weight, ctx.geometry) if ctx.needs_input_grad[0] else None
        to_weight = call(_WeightGradient, images, grad, ctx.geometry) if ctx.needs_input_grad[1] else None
        return to_images, to_weight, None

    @staticmethod
    def jvp(ctx: Any, images: Tensor | None, weight: Tensor | None, _: None) -> Tensor:
        return _Output.product_rule(ctx, images, weight)

    @staticmethod
    def vmap(
        info: Any, axes: tuple[int | None, ...], images: Tensor, weight: Tensor, geometry: Geometry
    ) -> tuple[Tensor, int]:
        tasks = info.batch_size
        if axes[1] is None and axes[0] is not None:
            return call(_Output, _fold(images, axes[0]), weight, geometry).unflatten(0, (tasks, -1)), 0
        if axes[0] is None and axes[1] is not None:  # all tasks' filters on the same images
            return call(_Output, images, _fold(weight, axes[1]), geometry).unflatten(1, (tasks, -1)), 1
        return _Output.one_by_one(tasks, axes[:2], (images, weight), geometry)


class _InputGradient(_Bilinear):
    """(gradient of the output, weight) -> gradient of the images."""

    @staticmethod
    def forward(grad: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        return _by_task(geometry.images_gradient, _lay(grad), weight)

    @staticmethod
    def backward(ctx: Any, images: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        grad, weight = ctx.saved_tensors
        to_grad = call(_Output, images, weight, ctx.geometry) if ctx.needs_input_grad[0] else None
        to_weight = call(_WeightGradient, images, grad, ctx.geometry) if ctx.needs_input_grad[1] else None
        return to_grad, to_weight, None

    @staticmethod
    def jvp(ctx: Any, grad: Tensor | None, weight: Tensor | None, _: None) -> Tensor:
        return _InputGradient.product_rule(ctx, grad, weight)

    @staticmethod
    def vmap(
        info: Any, axes: tuple[int | None, ...], grad: Tensor, weight: Tensor, geometry: Geometry
    ) -> tuple[Tensor, int]:
        tasks = info.batch_size
        if axes[1] is None and axes[0] is not None:
            return call(_InputGradient, _fold(grad, axes[0]), weight, geometry).unflatten(0, (tasks, -1)), 0
        return _InputGradient.one_by_one(tasks, axes[:2], (grad, weight), geometry)


class _WeightGradient(_Bilinear):
    """(images, gradient of the output) -> gradient of the weight."""

    @staticmethod
    def forward(images: Tensor, grad: Tensor, geometry: Geometry) -> Tensor:
        images, grad = _lay(images), _lay(grad)
        if not geometry.tasks:
            return geometry.weight_gradient(images, grad)
        parts = list(zip(images.chunk(geometry.tasks), grad.chunk(geometry.tasks), strict=True))
        weights = _sizes(grad, len(parts) * grad.shape[1], images.shape[1], *geometry.kernel)
        for weight, (x, g) in zip(weights.chunk(geometry.tasks), parts, strict=True):
            weight.copy_(geometry.weight_gradient(x, g))
        per_task: Tensor = weights.unflatten(0, (geometry.tasks, -1))
        return per_task

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        images, grad = ctx.saved_tensors
        to_images = call(_InputGradient, grad, weight, ctx.geometry) if ctx.needs_input_grad[0] else None
        to_grad = call(_Output, images, weight, ctx.geometry) if ctx.needs_input_grad[1] else None
        return to_images, to_grad, None

    @staticmethod
    def jvp(ctx: Any, images: Tensor | None, grad: Tensor | None, _: None) -> Tensor:
        return _WeightGradient.product_rule(ctx, images, grad)

    @staticmethod
    def vmap(
        info: Any, axes: tuple[int | None, ...], images: Tensor, grad: Tensor, geometry: Geometry
    ) -> tuple[Tensor, int]:
        tasks = info.batch_size
        if axes[0] is None and axes[1] is not None:  # the same images for every task
            filters = grad.movedim(axes[1], 1).flatten(1, 2)
            return call(_WeightGradient, images, filters, geometry).unflatten(0, (tasks, -1)), 0
        return _WeightGradient.one_by_one(tasks, axes[:2], (images, grad), geometry)


def convolve(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
) -> Tensor:
    """`torch.conv2d` of one group: images (n, channel_in, y, x), weight (channel, channel_in, v, u).

    With weight (task, channel, channel_in, v, u) and bias (task, channel) each task has its own for its share
    of the images, which follow each other task by task.
    """
    moves = (tuple(stride), tuple(padding), tuple(dilation))
    if weight.dim() == 4 and not torch.is_grad_enabled():  # torch's own, which costs less to call
        return torch.conv2d(images, weight, bias, *moves)
    tasks = weight.shape[0] if weight.dim() == 5 else 0
    geometry = Geometry(*moves, tuple(images.shape[-2:]), tuple(weight.shape[-2:]), tasks)
    output: Tensor = call(_Output, images, weight, geometry)
    return output if bias is None else output + each_image(bias, len(images))[..., None, None]


def each_image(values: Tensor, images: int) -> Tensor:
    """Values of each task (task, channel) for each of its images (n, channel); (channel,) as it is."""
    return values if values.dim() == 1 else values.repeat_interleave(images // values.shape[0], dim=0)
