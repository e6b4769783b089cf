"""The proximal network's layers as Triton kernels, each one pass over memory.

A program computes a strip of a layer, 64 or 128 columns wide, row by row. Each row of
its input is loaded once and counts towards three rows of its output, whose sums are
kept in registers (docs/decisions/0194-proximal-network-in-triton.md). Features lie
channels last. Beyond the image they are zero, in every layer, as torch pads them.

Importing this module needs Triton.
"""

# No postponed annotations: Triton reads `tl.constexpr` from them.
import triton
import triton.language as tl

__all__ = ["convolution", "first_convolution"]

# Strips and rows differ between frame sizes; a kernel for each is not worth it.
_PLAIN = ["rows", "columns", "strip"]


@triton.jit(do_not_specialize=_PLAIN)
def first_convolution(
    image,
    contrast,
    target,
    weight,
    bias,
    rows,
    columns,
    strip,
    slope: tl.constexpr,
    NOISE_MAP: tl.constexpr,
    OUTPUTS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute the first layer: pixels, four to a position, and the noise's contrast.

    Parameters
    ----------
    image
        (B, 2 rows, 2 columns) float32.
    contrast
        (B, rows, columns); not read without a noise map.
    target
        (B, rows, columns, OUTPUTS), in the precision of the products.
    weight, bias
        (OUTPUTS, 3, 3, 4 or 5) and (OUTPUTS,), contiguous, in that precision.
    rows, columns, strip
        Positions of a layer, and rows that one program computes.
    """
    inputs: tl.constexpr = 4 + NOISE_MAP
    x = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    top = tl.program_id(1) * strip
    batch = tl.program_id(2).to(tl.int64)
    image += batch * 4 * rows * columns
    contrast += batch * rows * columns
    target += batch * rows * columns * OUTPUTS
    # One row of taps has 12 or 15 inputs; a matrix product takes 16.
    slot = tl.arange(0, 16)
    channel = slot % inputs
    across = x[:, None] + (slot // inputs)[None, :] - 1
    inside = (across >= 0) & (across < columns) & (slot < 3 * inputs)[None, :]
    pixel = 2 * across + (channel % 2)[None, :]
    down = (channel // 2)[None, :]
    is_pixel = (channel < 4)[None, :]

    output = tl.arange(0, OUTPUTS)
    place = output[None, :] * (9 * inputs) + slot[:, None]
    used = (slot < 3 * inputs)[:, None]
    above = tl.load(weight + place, used, 0.0)
    level = tl.load(weight + place + 3 * inputs, used, 0.0)
    below = tl.load(weight + place + 6 * inputs, used, 0.0)
    offset = tl.load(bias + output).to(tl.float32)

    older = tl.full([COLUMNS, OUTPUTS], 0.0, tl.float32)
    newer = tl.full([COLUMNS, OUTPUTS], 0.0, tl.float32)
    nothing = tl.full([COLUMNS, OUTPUTS], 0.0, tl.float32)
    for step in range(strip + 2):
        y = top + step - 1
        here = inside & (y >= 0) & (y < rows)
        row = (2 * y + down) * (2 * columns)
        taps = tl.load(image + row + pixel, here & is_pixel, 0.0)
        if NOISE_MAP:
            taps += tl.load(
                contrast + y * columns + across, here & (channel == 4)[None, :], 0.0
            ).to(tl.float32)
        taps = taps.to(weight.dtype.element_ty)
        older = tl.dot(taps, below, older)
        newer = tl.dot(taps, level, newer)
        newest = tl.dot(taps, above, nothing)
        total = older + offset[None, :]
        total = tl.where(total < 0, slope * total, total)
        finished = y - 1
        tl.store(
            target + (finished * columns + x[:, None]) * OUTPUTS + output[None, :],
            total.to(target.dtype.element_ty),
            (x < columns)[:, None] & (step >= 2) & (finished < rows),
        )
        older, newer = newer, newest


@triton.jit(do_not_specialize=_PLAIN)
def convolution(
    source,
    image,
    target,
    weight,
    bias,
    rows,
    columns,
    strip,
    slope: tl.constexpr,
    LAST: tl.constexpr,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute a further layer: hidden, or the last, which adds to the image.

    Parameters
    ----------
    source
        (B, rows, columns, INPUTS).
    image
        (B, 2 rows, 2 columns) float32; only the last layer reads it.
    target
        (B, rows, columns, OUTPUTS), or like the image in the last layer.
    weight, bias
        (OUTPUTS, 3, 3, INPUTS) and (OUTPUTS,), contiguous, in the source's precision;
        (4, 3, 3, INPUTS) and (4,) in the last layer.
    rows, columns, strip
        As `first_convolution`.
    OUTPUTS
        16 in the last layer, the fewest that a product gives; four of them count.
    """
    x = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    top = tl.program_id(1) * strip
    batch = tl.program_id(2).to(tl.int64)
    source += batch * rows * columns * INPUTS
    image += batch * 4 * rows * columns
    target += batch * rows * columns * (4 if LAST else OUTPUTS)
    channel = tl.arange(0, INPUTS)
    output = tl.arange(0, OUTPUTS)
    counts = output < (4 if LAST else OUTPUTS)

    place = output[None, :] * (9 * INPUTS) + channel[:, None]
    used = counts[None, :] & (channel < INPUTS)[:, None]
    above_left = tl.load(weight + place, used, 0.0)
    above = tl.load(weight + place + INPUTS, used, 0.0)
    above_right = tl.load(weight + place + 2 * INPUTS, used, 0.0)
    left = tl.load(weight + place + 3 * INPUTS, used, 0.0)
    middle = tl.load(weight + place + 4 * INPUTS, used, 0.0)
    right = tl.load(weight + place + 5 * INPUTS, used, 0.0)
    below_left = tl.load(weight + place + 6 * INPUTS, used, 0.0)
    below = tl.load(weight + place + 7 * INPUTS, used, 0.0)
    below_right = tl.load(weight + place + 8 * INPUTS, used, 0.0)
    offset = tl.load(bias + output, counts, 0.0).to(tl.float32)

    places = x[:, None] * INPUTS + channel[None, :]
    has_left = (x > 0) & (x <= columns)
    has_right = x + 1 < columns
    older = tl.full([COLUMNS, OUTPUTS], 0.0, tl.float32)
    newer = tl.full([COLUMNS, OUTPUTS], 0.0, tl.float32)
    nothing = tl.full([COLUMNS, OUTPUTS], 0.0, tl.float32)
    for step in range(strip + 2):
        y = top + step - 1
        row = source + y * columns * INPUTS
        inside = (y >= 0) & (y < rows)
        west = tl.load(row + places - INPUTS, (has_left & inside)[:, None], 0.0)
        here = tl.load(row + places, ((x < columns) & inside)[:, None], 0.0)
        east = tl.load(row + places + INPUTS, (has_right & inside)[:, None], 0.0)
        older = tl.dot(west, below_left, older)
        older = tl.dot(here, below, older)
        older = tl.dot(east, below_right, older)
        newer = tl.dot(west, left, newer)
        newer = tl.dot(here, middle, newer)
        newer = tl.dot(east, right, newer)
        newest = tl.dot(west, above_left, nothing)
        newest = tl.dot(here, above, newest)
        newest = tl.dot(east, above_right, newest)
        total = older + offset[None, :]
        finished = y - 1
        stored = (x < columns)[:, None] & (step >= 2) & (finished < rows)
        if LAST:
            # Outputs 0 and 1 are neighbours in a row of the image, 2 and 3 below them.
            down, across = (
                (output // 2)[None, :],
                2 * x[:, None] + (output % 2)[None, :],
            )
            pixel = (2 * finished + down) * (2 * columns) + across
            stored = stored & counts[None, :]
            total += tl.load(image + pixel, stored, 0.0)
            tl.store(target + pixel, total, stored)
        else:
            total = tl.where(total < 0, slope * total, total)
            pixel = (finished * columns + x[:, None]) * OUTPUTS + output[None, :]
            tl.store(target + pixel, total.to(target.dtype.element_ty), stored)
        older, newer = newer, newest
