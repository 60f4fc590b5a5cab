"""Image files made by hand, by their formats' specifications, and what a viewer shows of them by plain NumPy."""
import struct
import zlib

import numpy as np

TURNS = {  # What a viewer makes of stored pixels, by EXIF orientation.
    1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1), 6: lambda x: np.rot90(x, -1), 7: lambda x: x[::-1, ::-1].swapaxes(0, 1), 8: np.rot90}


def exif(orientation):
  """EXIF data with an orientation alone: a TIFF header and one entry (EXIF 2.3, 4.6)."""
  return b'MM\0*' + struct.pack('>IHHHIHHI', 8, 1, 0x112, 3, 1, orientation, 0, 0)


def png(samples, depth, colour_type, *, palette=None, key=None, orientation=None):
  """A PNG file (ISO 15948).

  Args:
    samples: integers [H, W, samples a pixel], 0 to 2^depth - 1.
    depth: bits a sample.
    colour_type: 0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGBA.
    palette: uint8 [colours, 3].
    key: the content of tRNS: the transparent gray or RGB value, or an alpha for each colour.
    orientation: that of EXIF.
  """
  height, width = samples.shape[:2]
  rows = samples.reshape(height, -1)
  if depth < 8:
    bits = ((rows[..., None] >> np.arange(depth - 1, -1, -1)) & 1).reshape(height, -1)
    packed = np.packbits(bits.astype(bool), axis=1)
  else:
    packed = rows.astype(f'>u{depth // 8}').view(np.uint8)
  chunks = [(b'IHDR', struct.pack('>IIBBBBB', width, height, depth, colour_type, 0, 0, 0))]
  if palette is not None:
    chunks.append((b'PLTE', palette.astype(np.uint8).tobytes()))
  if key is not None:
    chunks.append((b'tRNS', bytes(key) if colour_type == 3 else struct.pack(f'>{len(key)}H', *key)))
  if orientation:
    chunks.append((b'eXIf', exif(orientation)))
  chunks += [(b'IDAT', zlib.compress(b''.join(b'\0' + row.tobytes() for row in packed))), (b'IEND', b'')]
  return b'\x89PNG\r\n\x1a\n' + b''.join(
      struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))
      for kind, content in chunks)


def tiff(samples, *, planar=False):
  """A TIFF file of RGB, uint8 or uint16 [H, W, 3], uncompressed, in one strip, or one a channel (TIFF 6.0)."""
  height, width, channels = samples.shape
  bits, ordered = 8 * samples.dtype.itemsize, samples.transpose(2, 0, 1) if planar else samples
  content = ordered.astype(f'<u{bits // 8}').tobytes()
  count, size = (channels, len(content) // channels) if planar else (1, len(content))
  more = 8 + 2 + 12 * 10 + 4  # Where values that need more than four bytes begin.
  offsets, sizes = more + 2 * channels, more + 2 * channels + 4 * count
  start = sizes + 4 * count
  entries = [
      (256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, more), (259, 3, 1, 1), (262, 3, 1, 2),
      (273, 4, count, offsets if planar else start), (277, 3, 1, channels), (278, 4, 1, height),
      (279, 4, count, sizes if planar else size), (284, 3, 1, 2 if planar else 1)]
  header = b'II*\0' + struct.pack('<IH', 8, len(entries)) + b''.join(struct.pack('<HHII', *entry) for entry in entries)
  starts = [start + size * i for i in range(count)]
  tables = struct.pack(f'<{channels}H{2 * count}I', *[bits] * channels, *starts, *[size] * count)
  return header + bytes(4) + tables + content


def over_white(pixels, alpha):
  """Colours [H, W, C] with an opacity [H, W], each 0 to 255, over white."""
  share = np.asarray(alpha, float)[..., None] / 255
  return np.floor(pixels * share + 255 * (1 - share) + 0.5).astype(np.uint8)


def plain(pixels):
  """Drops the colours of what has none: uint8 [H, W] or [H, W, 3] to [H, W, 1] or [H, W, 3]."""
  pixels = pixels if pixels.ndim == 3 else pixels[..., None]
  return pixels[..., :1] if (pixels == pixels[..., :1]).all() else pixels
