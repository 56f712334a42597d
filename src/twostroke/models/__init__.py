"""Models by name, and the nets that the paper trains.

`catalog` names to models · `allcnn` ALL-CNN A, B, C in four variants · `nin` Network in Network ·
`mini` a small net for a CPU · `outside` torchvision's and timm's models · `blocks` what ours are
made of · `sizes` of a model that was made narrower.

Imports torch only; torchvision and timm when one of their models is asked for.
"""

from .allcnn import AllCNN
from .catalog import MODELS, Entry, create_model, list_models
from .mini import Mini
from .nin import NIN

__all__ = ["MODELS", "NIN", "AllCNN", "Entry", "Mini", "create_model", "list_models"]
