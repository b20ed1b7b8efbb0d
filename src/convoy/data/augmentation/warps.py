"""Coefficients of `Kind.AFFINE` and `Kind.PERSPECTIVE` for geometric transforms, float64 [B, 6] or [B, 8]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convoy.config.image_size import Sides

Numbers = NDArray[np.float64]


def shear_x(slopes: Numbers) -> Numbers:
    """Return the coefficients of x' = x - slope * y, about the upper left corner."""
    return _affine(b=slopes)


def shear_y(slopes: Numbers) -> Numbers:
    """Return the coefficients of y' = y - slope * x, about the upper left corner."""
    return _affine(d=slopes)


def translate(right: Numbers, down: Numbers) -> Numbers:
    """Return the coefficients of a shift in pixels."""
    return _affine(c=-right, f=-down)


def rotate(degrees: Numbers, size: Sides) -> Numbers:
    """Return the coefficients of a rotation counterclockwise about the center of images of a size."""
    return about_center(-degrees, np.zeros((2, len(degrees))), np.ones(len(degrees)), 0 * degrees, size)


def about_center(degrees: Numbers, shift: Numbers, scale: Numbers, shear_degrees: Numbers, size: Sides) -> Numbers:
    """Return the coefficients of a general affine transform, as torchvision's `affine`.

    Args:
        degrees: rotation clockwise.
        shift: [2, B], shift to the right and down in pixels.
        scale: factor of the size.
        shear_degrees: shear parallel to the x axis.
        size: height and width of the images.
    """
    angle, slope = np.deg2rad(degrees), np.tan(np.deg2rad(shear_degrees))
    forward = np.empty((len(degrees), 2, 2))
    forward[:, 0, 0], forward[:, 1, 0] = np.cos(angle), np.sin(angle)
    forward[:, 0, 1] = -np.cos(angle) * slope - np.sin(angle)
    forward[:, 1, 1] = -np.sin(angle) * slope + np.cos(angle)
    inverse = np.linalg.inv(forward * scale[:, None, None]).astype(np.float64)
    center = np.array([size.width / 2, size.height / 2])
    offset = center - (inverse @ (center + shift.T)[:, :, None])[:, :, 0]
    return _affine(
        a=inverse[:, 0, 0], b=inverse[:, 0, 1], c=offset[:, 0], d=inverse[:, 1, 0], e=inverse[:, 1, 1], f=offset[:, 1]
    )


def perspective(starts: Numbers, ends: Numbers) -> Numbers:
    """Return the coefficients of the homographies that map four points to others.

    Args:
        starts: [B, 4, 2], points (x, y) of the source.
        ends: [B, 4, 2], points of the result that show them.
    """
    x, y = ends[..., 0], ends[..., 1]
    zeros, ones = np.zeros_like(x), np.ones_like(x)
    rows_x = np.stack([x, y, ones, zeros, zeros, zeros, -starts[..., 0] * x, -starts[..., 0] * y], axis=-1)
    rows_y = np.stack([zeros, zeros, zeros, x, y, ones, -starts[..., 1] * x, -starts[..., 1] * y], axis=-1)
    system = np.concatenate([rows_x, rows_y], axis=1)
    right = np.concatenate([starts[..., 0], starts[..., 1]], axis=1)
    return np.linalg.solve(system, right[:, :, None])[:, :, 0]


def _affine(
    a: Numbers | float = 1.0,
    b: Numbers | float = 0.0,
    c: Numbers | float = 0.0,
    d: Numbers | float = 0.0,
    e: Numbers | float = 1.0,
    f: Numbers | float = 0.0,
) -> Numbers:
    return np.stack(np.broadcast_arrays(a, b, c, d, e, f), axis=-1)
