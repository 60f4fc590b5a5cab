"""Turns image files into the pixels that a viewer shows: one function for folders, TFDS and whoever predicts from files."""
from __future__ import annotations

import functools
import io
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image

from enas_jax.errors import UserError

VERSION = 3  # Raised when the pixels of some file change: caches are made anew then.
UNREADABLE = {'BUFR', 'EPS', 'GRIB', 'HDF5', 'MPEG', 'WMF'}  # Pillow knows them by name, or has other programs draw them.
COMMON = ('PNG', 'JPEG', 'GIF', 'BMP', 'PPM')  # Always there.
MODES = {1: 'L', 3: 'RGB', 4: 'RGBA'}  # Pillow's, by channels.
WORKING = ('L', 'RGB')
BACKGROUND = 'white'
REMARKS = {
    'turned': 'turned as their EXIF orientation says',
    'transparent': f'with transparency, shown over {BACKGROUND}',
    'frames': 'animated or of several pages, of which the first is read'}
# Pillow's names of how pixels lie in a file, with more than 8 bits a channel; the 16 bits of 'BGR;16' are a whole pixel's.
DEEP = re.compile(r'(?!BGR)[^;]+;(10|12|14|16|24|32|64)')
TURNS = {  # What an EXIF orientation asks for (CIPA DC-008, 4.6.4). Pillow's own function fails at odd tags beside it.
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90}
CODESTREAM = b'\xff\x4f\xff\x51'  # JPEG 2000, before the image's size.
PNG = re.compile(rb'\x89PNG\r\n\x1a\n....IHDR........(.)', re.DOTALL)  # Up to the bits a channel.


class Picture(NamedTuple):
  """An image file as read.

  Attributes:
    pixels: uint8 [H, W, C]; C is 1 if all pixels are gray, however they are stored, else 3.
    remarks: those of the keys of REMARKS that hold.
  """

  pixels: np.ndarray
  remarks: tuple[str, ...]


@functools.cache
def formats() -> tuple[str, ...]:
  """Returns the formats that this Pillow decodes by itself, in the order in which a file is tried."""
  Image.init()
  return (*COMMON, *sorted(set(Image.OPEN) - UNREADABLE - set(COMMON)))


@functools.cache
def suffixes() -> frozenset[str]:
  """Returns the suffixes of their files, in lower case, such as '.png'."""
  return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats())


def decode(where: str, source: str | io.BytesIO, *, channels: int | None = None) -> Picture:
  """Reads an image as a viewer shows it.

  It is turned as its EXIF orientation says, transparency is shown over white, palettes, CMYK and Lab become RGB (a file's
  colour profile is not applied), and of an animation or several pages the first is read.

  Args:
    where: names the image in errors, such as "data 'folder:pets': image cat/1.png".
    source: the path of a regular file, or its content.
    channels: 1 turns colours into gray and 3 gray into RGB; 4 keeps RGB and transparency as they are. None: as the pixels are.

  Raises:
    UserError: it cannot be read, or has more than 8 bits a channel.
  """
  try:
    with Image.open(source, formats=formats()) as image:
      if deep := _deep(image, source):
        raise UserError(f'{where} has more than 8 bits a channel ({deep}); convert it to 8')
      _scale_key(image)
      turned = _orientation(image)
      image.load()  # Which turns a TIFF, and takes its orientation back.
      upright = image.transpose(TURNS[left]) if (left := _orientation(image)) else image
      shown, transparent = (upright.convert(MODES[4]), False) if channels == 4 else _flattened(upright)
      pixels = _in_channels(shown, channels)
      several = getattr(image, 'is_animated', False)  # Asked last: it moves through the file.
  except UserError:
    raise
  except Exception as error:  # Pillow has no common class for what a broken file can raise.
    reason = f' ({error.strerror})' if isinstance(error, OSError) and error.strerror else ''
    raise UserError(f'{where} cannot be read{reason}; replace or remove it') from error
  found = {'turned': bool(turned), 'transparent': transparent, 'frames': several}
  return Picture(pixels, tuple(remark for remark, holds in found.items() if holds))


def in_words(remarks: Mapping[str, int]) -> list[str]:
  """Returns on how many images each remark was made."""
  return [f'{remarks[remark]:,} {text}' for remark, text in REMARKS.items() if remarks.get(remark)]


def _deep(image: Image.Image, source: str | io.BytesIO) -> str:
  """Returns how an image is deeper than 8 bits a channel; empty if it is not.

  Pillow turns some of them into 8 bits without a word, so its mode does not tell. What AVIF holds is meant for a screen.
  """
  if image.mode.startswith(('F', 'I')):
    return f'mode {image.mode}'
  for tile in getattr(image, 'tile', ()):  # Absent where a plugin decodes on its own.
    arguments = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    raw = next((argument for argument in arguments if isinstance(argument, str)), '')
    if tile.codec_name == 'SGI16' or DEEP.match(raw):
      return raw if DEEP.match(raw) else '16 bits'
    if tile.codec_name in ('ppm', 'ppm_plain') and arguments[-1] > 255:
      return f'values to {arguments[-1]}'
  bits = 8
  if image.format == 'TIFF':
    bits = max(getattr(image, 'tag_v2', {}).get(258, (8,)))
  elif image.format in ('JPEG2000', 'ICO', 'ICNS'):  # Icons hold whole files: PNG, JPEG 2000.
    content = _content(source)
    bits = max([bits, *_bits_of_codestreams(content), *(depth[0] for depth in PNG.findall(content))])
  return f'{bits} bits' if bits > 8 else ''


def _orientation(image: Image.Image) -> int:
  """Returns the EXIF orientation where it turns the image, else 0. Damaged data do not; viewers pass over them, too."""
  if image.format != 'TIFF':  # Whose pixels are turned when they are loaded; while in a PNG the data may follow the pixels.
    image.load()
  try:
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in TURNS else 0
  except Exception:  # Pillow has no common class for what they can raise, either.
    return 0


def _content(source: str | io.BytesIO) -> bytes:
  return source.getvalue() if isinstance(source, io.BytesIO) else pathlib.Path(source).read_bytes()


def _bits_of_codestreams(content: bytes) -> Iterator[int]:
  """Yields the bits a channel of each JPEG 2000 image (ISO 15444-1, A.5.1: 40 bytes from the start, then three a channel)."""
  for found in re.finditer(re.escape(CODESTREAM), content):
    start = found.start() + 40
    length, channels = (int.from_bytes(content[place:place + 2], 'big') for place in (start - 36, start))
    if length == 38 + 3 * channels:  # Else these are pixels that look so.
      yield from ((depth & 127) + 1 for depth in content[start + 2:start + 2 + 3 * channels:3])


def _flattened(image: Image.Image) -> tuple[Image.Image, bool]:
  """Returns the image in gray or RGB without transparency, and whether it had some."""
  if image.has_transparency_data:
    layer = (image.convert('LA') if image.mode == 'La' else image).convert('RGBA')
    below = Image.new('RGBA', layer.size, BACKGROUND)
    alpha: Any = layer.getchannel('A').getextrema()
    return Image.alpha_composite(below, layer).convert('RGB'), alpha[0] < 255
  if image.mode in WORKING:
    return image, False
  return image.convert('L' if image.mode == '1' else 'RGB'), False


def _scale_key(image: Image.Image) -> None:
  """Brings the transparent gray of a PNG with 2 or 4 bits to the scale of its pixels: Pillow scales these alone.

  It is called before the image is loaded, which forgets how it was stored.
  """
  tiles = getattr(image, 'tile', ())
  raw = tiles[0].args if tiles else ''
  if 'transparency' in image.info and raw in ('L;2', 'L;4'):
    image.info['transparency'] *= 255 // (2**int(raw[2]) - 1)


def _in_channels(image: Image.Image, channels: int | None) -> np.ndarray:
  if channels is not None:
    pixels = np.asarray(image if image.mode == MODES[channels] else image.convert(MODES[channels]))
  else:
    pixels = np.asarray(image)
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
      pixels = pixels[..., 0]
  return pixels if pixels.ndim == 3 else pixels[..., None]
