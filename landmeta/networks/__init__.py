"""Networks: the main paper's ResNet-12 and Conv4, built from settings, and their adapted parameters.

Every network takes `normalize`, which says where the moments of its norm layers come from
(`landmeta.norms`); without it each layer follows its own rule on the batch at hand.
"""

from landmeta.networks.building import NETWORKS as NETWORKS
from landmeta.networks.building import Network as Network
from landmeta.networks.building import build_network as build_network
from landmeta.networks.conv4 import Conv4 as Conv4
from landmeta.networks.parameters import adaptable as adaptable
from landmeta.networks.parameters import body_names as body_names
from landmeta.networks.parameters import head_names as head_names
from landmeta.networks.resnet12 import ALIGN as ALIGN
from landmeta.networks.resnet12 import BIG_WIDTHS as BIG_WIDTHS
from landmeta.networks.resnet12 import CONTEXT as CONTEXT
from landmeta.networks.resnet12 import SLOPE as SLOPE
from landmeta.networks.resnet12 import STRIDES as STRIDES
from landmeta.networks.resnet12 import WIDTHS as WIDTHS
from landmeta.networks.resnet12 import Block as Block
from landmeta.networks.resnet12 import ResNet12 as ResNet12
from landmeta.networks.resnet12 import pool_before as pool_before
from landmeta.networks.resnet12 import upsample as upsample
