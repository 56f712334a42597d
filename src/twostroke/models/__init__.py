"""Models: the paper's networks, a small one for demonstrations, and others' by name.

`allcnn` ALL-CNN A, B, C in four variants · `nin` Network in Network · `mini` a small all-convolutional
net · `blocks` what they are made of · `catalog` models by name, torchvision's and timm's included.
"""

from .allcnn import AllCNN
from .catalog import MODELS, Entry, create_model, list_models
from .mini import Mini
from .nin import NIN

__all__ = ["MODELS", "NIN", "AllCNN", "Entry", "Mini", "create_model", "list_models"]
