"""Students of a teacher: smaller networks that are made from it, to be trained towards a guide.

`narrow` fewer channels (needs `pip install 'twostroke[shrink]'`), `fresh` their weights drawn again ·
`pruned` weights that are zero, `zeros` how they are written · `bits` weights of 1, 2 or 4 bits, `levels`
their arithmetic · `inner` the layers that are pruned or quantised · `packed` files of weights ·
`student` a file that says how to build the network.

Each maker takes a network, leaves it untouched and returns another, all of whose parameters learn. After
training that is a plain PyTorch module; weights of few bits become one by `finish`.
"""

from .bits import finish, quantise
from .narrow import narrow
from .packed import load_packed, save_packed
from .pruned import prune
from .student import Student, load_student

__all__ = [
    "Student",
    "finish",
    "load_packed",
    "load_student",
    "narrow",
    "prune",
    "quantise",
    "save_packed",
]
