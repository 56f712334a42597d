"""One bit a unit: whether its pre-activation lies above the lower edge of its site."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..errors import SupportMismatchError
from ..support import Site, Support


def one_bit(site: Site) -> Site:
    """The site as a guide keeps it: one plane, whatever its kind."""
    return replace(site, planes=1)


def above(support: Support) -> Support:
    """A recorded support with one plane a site.

    The second plane of a clamp says "high", which is above the lower edge too. Max pooling has no sides
    and is left out.
    """
    sites, rows = [], []
    for site in support.sites:
        if site.kind != "max_pool":
            first, *more = support.planes(site)
            for plane in more:
                first = first | plane
            sites.append(one_bit(site))
            rows.append(first)
    if not sites:
        raise SupportMismatchError("this support has no site with sides: max pooling has none")
    return support if tuple(sites) == support.sites else Support(sites, torch.cat(rows, 1))
