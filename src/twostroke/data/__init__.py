"""Data sets whose examples carry their index, and augmentation that can be replayed.

A stored mask belongs to one view of one example, so a source here is asked for examples by index
and for augmented views by number, and answers the same every time.

- `examples`: `Examples` in memory, and `ExampleSource`, what training asks of any source
- `wrapped`: `DatasetExamples` around a torch Dataset; `check_replayable` tries a source out
- `ahead`: worker processes that fetch announced batches; `announce` tells any source of them
- `bundle`: `Data`, a training and a test source; `from_tensors` and `as_data` make it
- `augment`: `FlipShift`, drawn from (seed, index, view), and `draw_integers` to write your own;
  `draw_order` and `draw_some`, which can be replayed
- `preprocessing`: contrast normalisation and whitening as published
- `pictures`: `Pictures`, files decoded when asked for, with crops that can be replayed
- `picture_files`: picture files found, opened, and looked over before training
- `catalog`: `load` by name, from `mnist12k` (embedded), `vision` (`vision_files`), `imagenet`
  (`imagenet_archives`), `npz` and `folder`
"""

from .ahead import announce
from .augment import Augmentation, FlipShift, augmentation, draw_integers, draw_order, draw_some
from .bundle import Data, as_data, from_tensors
from .catalog import default_root, list_data, load
from .examples import Examples, ExampleSource
from .pictures import Pictures
from .preprocessing import Whitening, gcn, local_contrast, preprocess
from .wrapped import DatasetExamples, check_replayable

__all__ = [
    "Augmentation",
    "Data",
    "DatasetExamples",
    "ExampleSource",
    "Examples",
    "FlipShift",
    "Pictures",
    "Whitening",
    "announce",
    "as_data",
    "augmentation",
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
    "preprocess",
]
