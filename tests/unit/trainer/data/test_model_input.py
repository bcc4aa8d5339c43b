"""From any image to a model's input: what is done to it is what a careful viewer would see."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tests.unit.image_files import drawing, encoded, files
from trainer import ImageError, InputForm, OtherSizeError, decode_image, to_input

GREY, COLOUR = InputForm(28, 28), InputForm(28, 28, is_colour=True)


def shown(data: bytes) -> NDArray[np.uint8]:
    """Return what Pillow makes of a file: turned, on white, in red, green and blue."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("name", sorted(set(files()) - {"16-bit.png"}))
def test_a_model_gets_what_a_viewer_shows(name: str) -> None:
    """Palettes, alpha, CMYK and orientation come out as in Pillow, in colour and in grey."""
    data = files()[name]
    atol = 1 if "cmyk" in name or "alpha" in name else 0
    expected = shown(data)
    np.testing.assert_allclose(
        to_input(decode_image(data), COLOUR).astype(int), expected.astype(int), rtol=0, atol=atol
    )
    atol += 1  # Pillow and OpenCV round the weights of the colours differently
    luma = np.asarray(Image.fromarray(expected).convert("L"))[:, :, None]
    np.testing.assert_allclose(
        to_input(decode_image(data), GREY).astype(int), luma.astype(int), rtol=0, atol=atol
    )


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_applied(form: str, orientation: int) -> None:
    """An image of 20x28 pixels is turned upright, in each format that has an orientation."""
    data = encoded(Image.fromarray(drawing(28, 20)), form, orientation)
    actual = decode_image(data)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    np.testing.assert_allclose(actual.astype(int), expected.astype(int), rtol=0, atol=2)


def test_exif_behind_the_pixels_of_a_png_is_found() -> None:
    """Some programs append the chunk at the end of the file."""
    plain = encoded(Image.fromarray(drawing(28, 20)), "PNG")
    turned = encoded(Image.fromarray(drawing(28, 20)), "PNG", 6)
    start = turned.index(b"eXIf") - 4
    chunk = turned[start : start + 12 + int.from_bytes(turned[start : start + 4])]
    assert decode_image(plain[:-12] + chunk + plain[-12:]).shape == (20, 28, 3)


def test_a_damaged_exif_block_leaves_the_image_as_it_is() -> None:
    """As in viewers, an orientation that cannot be read is none."""
    data = encoded(Image.fromarray(drawing(28, 20)), "JPEG", 6)
    damaged = data.replace(b"MM\x00*", b"XXXX").replace(b"II*\x00", b"XXXX")
    assert damaged != data
    assert decode_image(damaged).shape == (28, 20, 3)


def test_16_bits_are_scaled_by_their_whole_range() -> None:
    """0 becomes 0, 65535 becomes 255, and values between are rounded to the nearest."""
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    scaled = to_input(pixels, InputForm(256, 256))[:, :, 0]
    np.testing.assert_array_equal(scaled, np.rint(pixels / 65535 * 255))


def test_alpha_lies_on_white() -> None:
    """What is transparent is white, what is opaque is itself, and half is halfway."""
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 3] = 0, 255, 128
    assert to_input(pixels, InputForm(1, 3))[0, :, 0].tolist() == [255, 0, 127]


def test_sides_are_averaged_when_they_shrink_and_interpolated_when_they_grow() -> None:
    """40x10 to 28x28: columns by area, rows linearly; a chessboard of columns gives no pattern."""
    pixels = np.random.default_rng(0).integers(0, 256, (10, 40), np.uint8)
    narrow = cv2.resize(pixels, (28, 10), interpolation=cv2.INTER_AREA)
    expected = cv2.resize(narrow, (28, 28), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(to_input(pixels, GREY)[:, :, 0], expected)
    stripes = np.tile(np.array([0, 255], np.uint8), (10, 28))
    assert set(np.unique(to_input(stripes, GREY))) <= {127, 128}
    smaller = cv2.resize(drawing(56, 84), (28, 28), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(to_input(drawing(56, 84), COLOUR), smaller)
    larger = cv2.resize(drawing(9, 7), (28, 28), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(to_input(drawing(9, 7), COLOUR), larger)


def test_another_size_is_an_error_where_images_are_not_resized() -> None:
    """The error names the image, both sizes, and what resizes it."""
    with pytest.raises(OtherSizeError, match=r"a\.png has 40x10 pixels, not 28x28") as caught:
        to_input(np.zeros((10, 40), np.uint8), GREY, resize=False, name="a.png")
    assert (caught.value.height, caught.value.width) == (10, 40)
    assert "resize_images=true" in str(caught.value)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.zeros((4, 4), np.float32), "has float32 values"),
        (np.zeros((4, 4, 2), np.uint8), "has 2 channels"),
        (np.zeros((0, 4), np.uint8), "has 4x0 pixels"),
        (np.zeros(4, np.uint8), r"has shape \(4,\)"),
    ],
)
def test_arrays_that_are_not_images_are_refused(pixels: NDArray[np.uint8], expected: str) -> None:
    """Floats, other channels, other dimensions and no pixels each have their error."""
    with pytest.raises(ImageError, match=f"the image {expected}"):
        to_input(pixels, GREY)
