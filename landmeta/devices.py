"""Where tensors are computed: the one place that chooses a device and its precision."""

from __future__ import annotations

from typing import Literal, TypeAlias

from landmeta.errors import DeviceError

DeviceName: TypeAlias = Literal["auto", "cpu", "cuda"]
"""`auto` takes a CUDA device if there is one, else the CPU."""


def choose_device(name: DeviceName = "auto", *, tf32: bool = False) -> Literal["cpu", "cuda"]:
    """The device of a name, and the precision of float32 matrix products and convolutions on it.

    Args:
        name: What is asked for.
        tf32: Let a GPU round their factors to 11 bits: up to eight times as fast, no longer equal to a CPU
            up to rounding. Holds for the whole process.

    Raises:
        DeviceError: CUDA is asked for where torch sees none.
    """
    import torch  # late: settings that name a device are read without it

    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        msg = "the device cuda is asked for, but torch sees no CUDA device"
        raise DeviceError(msg, "take the device cpu or auto, or install a CUDA build of torch")
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.deterministic = True
    return "cuda" if there and name != "cpu" else "cpu"
