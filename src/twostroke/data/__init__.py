"""Data sets whose examples carry their index, and augmentation that can be replayed.

A stored mask belongs to one view of one example, so a source here is asked for examples by index
and for augmented views by number, and answers the same every time.

- `examples`: `Examples` in memory; `ExampleSource`, what training asks of any source; `announce` tells
  a source which batches come next
- `wrapped`: `DatasetExamples` around a torch Dataset, with `workers` that fetch announced batches;
  `check_replayable` tries a source out
- `pictures`: `Pictures`, files decoded when asked for; `picture_files` finds and divides them, `decoding`
  opens and checks them
- `noise`: `noise`, smooth random pictures, for where you have no others
- `photos`: `photos`, pictures without labels, from a folder of any depth
- `preparation`: `Preparation`, what trained weights want of images
- `bundle`: `Data`, a training and a test source; `from_tensors` and `as_data` make it
- `augmentation`: `FlipShift`, and `ResizedCrop` for `Pictures`
- `draws`: `draw_integers`, from (seed, index, view), to write your own; `draw_order`, `draw_some`
- `preprocessing`: contrast normalisation and whitening as published
- `to_tensor`: `PictureToTensor`, a picture as a network takes it, outside of a data set
- `catalog`: `load` by name, from `mnist12k` (embedded), `vision` (`vision_files`), `imagenet`, `npz` and
  `folder`
"""

from .augmentation import Augmentation, FlipShift, ResizedCrop
from .bundle import Data, as_data, from_tensors
from .catalog import default_root, list_data, load
from .draws import draw_integers, draw_order, draw_some
from .examples import Examples, ExampleSource, announce
from .noise import noise
from .photos import photos
from .pictures import Pictures
from .preparation import Preparation
from .preprocessing import Whitening, gcn, local_contrast, preprocess
from .to_tensor import PictureToTensor
from .wrapped import DatasetExamples, check_replayable

__all__ = [
    "Augmentation",
    "Data",
    "DatasetExamples",
    "ExampleSource",
    "Examples",
    "FlipShift",
    "PictureToTensor",
    "Pictures",
    "Preparation",
    "ResizedCrop",
    "Whitening",
    "announce",
    "as_data",
    "check_replayable",
    "default_root",
    "draw_integers",
    "draw_order",
    "draw_some",
    "from_tensors",
    "gcn",
    "list_data",
    "load",
    "local_contrast",
    "noise",
    "photos",
    "preprocess",
]
