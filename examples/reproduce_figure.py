"""A figure of the paper by name, small: python examples/reproduce_figure.py FOLDER

Trains the runs behind figure 3 on 12,000 digits at the smallest scale, and writes its picture and table.
"""

import sys
from pathlib import Path

from twostroke.cli import main as twostroke


def main(folder: Path) -> None:
    twostroke(["reproduce", "figure3", "--scale", "smoke", "--out", str(folder)])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
