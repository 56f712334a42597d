"""The picture of `twostroke explain`: an image beside what each of its pixels adds to one logit."""

from __future__ import annotations

from os import PathLike

from torch import Tensor

from .figure import new_figure, show_image

# share of pixels that the colour scale covers; the few beyond it take the end colours
COVERED = 0.998


def draw_contributions(
    image: Tensor,  # (channels, height, width), 0 to 1; 1 or 3 channels
    contributions: Tensor,  # (channels, height, width)
    path: str | PathLike[str],
    *,
    title: str = "",
    note: str = "",
) -> None:
    """Draw the image and, beside it, its pixels' contributions, and save the picture.

    Contributions are summed over channels. Red adds to the logit, blue takes from it, and the scale
    is symmetric, so that white is nothing; it ends at the quantile `COVERED` of the absolute
    contributions, and the colour bar shows by an arrow that some lie beyond. The format is the one
    that the path's suffix says.
    """
    pixels = contributions.detach().cpu().double().sum(0)
    reach = float(pixels.abs().max())
    limit = float(pixels.abs().flatten().sort().values[round(COVERED * (pixels.numel() - 1))])
    limit = limit or reach or 1.0
    height, width = pixels.shape
    # panels of one size whatever the image's shape, and room for title, note and colour bar
    side = min(max(height / width, 0.4), 1.6) * 4.2
    figure = new_figure((10, side + 0.85))
    left, right = figure.subplots(1, 2)
    show_image(left, image, "image", 10)
    drawn = right.imshow(
        pixels.numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest"
    )
    bar = figure.colorbar(
        drawn, ax=right, extend="both" if reach > limit else "neither", shrink=0.9, pad=0.02
    )
    bar.set_label("added to the logit, a pixel", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    right.set_title("contributions", fontsize=10)
    for axes in (left, right):
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color("#999999")
    if title:
        figure.suptitle(title, fontsize=12)
    if note:
        figure.supxlabel(note, fontsize=8, color="#555555")
    figure.savefig(path, dpi=130)
