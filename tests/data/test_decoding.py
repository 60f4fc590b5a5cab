"""Pixels as a viewer shows them: every kind of PNG by hand, and every mode of Pillow, each in all eight orientations."""
import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageMode
from support.image_files import TURNS, exif, over_white, plain, png, tiff

from enas_jax.data import decoding
from enas_jax.data.decoding import decode, formats, suffixes

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 5, 6
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # Those that PNG allows, by colour type.
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
KINDS = [(colour_type, depth, keyed) for colour_type, depths in DEPTHS.items() for depth in depths
         for keyed in ((False, True) if colour_type < 4 else (False,))]


def read(content, **options):
  return decode('image x', io.BytesIO(content), **options)


def saved(image, kind, **options):
  file = io.BytesIO()
  image.save(file, kind, **options)
  return file.getvalue()


def shown(samples, depth, colour_type, palette, key):
  """What PNG's specification says of 8 bits and less: the pixels over white."""
  if colour_type == 3:
    alpha = np.array([*key, *[255] * len(palette)]) if key else np.full(len(palette), 255)
    return over_white(palette[samples[..., 0]], alpha[samples[..., 0]])
  scaled = (samples * 255 // (2**depth - 1)).astype(np.uint8)
  if colour_type in (4, 6):
    return over_white(scaled[..., :-1], scaled[..., -1])
  transparent = (samples == np.array(key)).all(-1) if key else np.zeros(samples.shape[:2], bool)
  return over_white(scaled, np.where(transparent, 0, 255))


@pytest.mark.parametrize(('colour_type', 'depth', 'keyed'), KINDS)
def test_every_png(colour_type, depth, keyed, user_error):
  samples = RNG.integers(0, 2**depth, (HEIGHT, WIDTH, SAMPLES[colour_type]))
  palette = RNG.integers(0, 256, (2**depth, 3), np.uint8) if colour_type == 3 else None
  samples[0, :4, 0] = np.arange(4) % 2**depth
  key = ([0, 128, 255, 7][:2**depth] if colour_type == 3 else samples[2, 3].tolist()) if keyed else None
  for orientation, turned in TURNS.items():
    content = png(samples, depth, colour_type, palette=palette, key=key, orientation=orientation)
    if depth == 16:
      with user_error('image x', 'more than 8 bits a channel', 'convert it to 8'):
        read(content)
      continue
    picture = read(content)
    np.testing.assert_array_equal(picture.pixels, plain(turned(shown(samples, depth, colour_type, palette, key))))
    assert ('turned' in picture.remarks) == (orientation > 1)
    assert ('transparent' in picture.remarks) == (keyed or colour_type in (4, 6))


def test_sixteen_bits_with_small_values_are_not_black(user_error):
  with user_error('more than 8 bits a channel', 'RGB;16B'):
    read(png(RNG.integers(0, 256, (4, 4, 3)), 16, 2))


@pytest.mark.parametrize('planar', [False, True])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_tiff_of_eight_and_sixteen_bits(dtype, planar, user_error):
  samples = RNG.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(dtype)
  if dtype == np.uint8:
    np.testing.assert_array_equal(read(tiff(samples, planar=planar)).pixels, samples)
  else:
    with user_error('image x', 'more than 8 bits'):
      read(tiff(samples, planar=planar))


def sgi(dtype, compressed):
  """An SGI file of gray zeros, as Silicon Graphics' document of 1989 has it."""
  size = np.dtype(dtype).itemsize
  header = struct.pack('>HBBHHHHII', 474, compressed, size, 2, 4, 4, 1, 0, 255).ljust(512, b'\0')
  return header + bytes(16 * size)


@pytest.mark.parametrize(('content', 'deep'), [
    (b'P6 2 2 255\n' + bytes(12), False), (b'P6 2 2 100\n' + bytes(12), False), (b'P6 2 2 65535\n' + bytes(24), True),
    (b'P3 1 1 1000\n1 2 3', True), (b'P5 2 2 1000\n' + bytes(8), True), (b'Pf 2 2\n-1\n' + bytes(16), True),
    (sgi('u1', 0), False), (sgi('u2', 0), True),
    (saved(Image.new('L', (9, 9)), 'JPEG2000'), False), (saved(Image.new('I;16', (9, 9)), 'JPEG2000'), True)])
def test_other_formats_that_can_be_deep(content, deep, user_error):
  if deep:
    with user_error('more than 8 bits a channel'):
      read(content)
  else:
    assert read(content).pixels.shape[2] == 1


@pytest.mark.parametrize('colour_type', [2, 6])
def test_an_icon_of_a_whole_png_file(colour_type, user_error):
  for depth in (8, 16):
    samples = np.full((16, 16, SAMPLES[colour_type]), 2**depth - 1)
    samples[0, 0] = [7, 9, 200, 2**depth - 1][:SAMPLES[colour_type]]
    file = png(samples, depth, colour_type)
    icon = struct.pack('<HHHBBBBHHII', 0, 1, 1, 16, 16, 0, 0, 1, 32, len(file), 22) + file
    if depth == 8:
      assert read(icon).pixels[0, 0].tolist() == [7, 9, 200]
    else:
      with user_error('more than 8 bits a channel (16 bits)'):
        read(icon)


def test_the_depth_of_jpeg_2000_is_read_from_its_codestream():
  files = [saved(Image.new(mode, (9, 9)), 'JPEG2000', no_jp2=raw) for mode in ('RGB', 'I;16') for raw in (False, True)]
  assert [max(decoding._bits_of_codestreams(file)) for file in files] == [8, 8, 16, 16]
  assert not list(decoding._bits_of_codestreams(decoding.CODESTREAM + bytes(range(99))))  # Pixels can look so.


@pytest.mark.parametrize(('mode', 'deep'), [('RGB', False), ('I;16', True)])
def test_an_icon_of_a_whole_jpeg_2000_file(mode, deep, user_error):
  file = saved(Image.new(mode, (128, 128)), 'JPEG2000')
  icon = b'icns' + struct.pack('>I', len(file) + 16) + b'ic07' + struct.pack('>I', len(file) + 8) + file
  if deep:
    with user_error('more than 8 bits a channel (16 bits)'):
      read(icon)
  else:
    assert read(icon).pixels.shape == (128, 128, 1)


def test_values_of_a_smaller_range_are_scaled():
  assert read(b'P6 2 1 100\n' + bytes([0, 50, 100, 100, 0, 0])).pixels.tolist() == [[[0, 128, 255], [255, 0, 0]]]


# The modes of Pillow, what they are filled with, and what a viewer shows: None where the mode is refused.
COLOUR = (200, 100, 50)
MODES = {
    '1': (255, (255,)), 'L': (77, (77,)), 'P': (None, COLOUR), 'RGB': (COLOUR, COLOUR), 'RGBX': ((*COLOUR, 9), COLOUR),
    'RGBA': ((*COLOUR, 51), (244, 224, 214)), 'RGBa': ((40, 20, 10, 51), (244, 224, 214)), 'LA': ((100, 51), (224,)),
    'La': ((20, 51), (224,)), 'PA': (None, (244, 224, 214)), 'CMYK': ((55, 155, 205, 0), COLOUR),
    'YCbCr': ((124, 86, 182), COLOUR), 'HSV': ((14, 191, 200), COLOUR), 'LAB': ((138, 166, 174), COLOUR),
    'I': (7, None), 'F': (7.0, None), 'I;16': (7, None), 'I;16L': (7, None), 'I;16B': (7, None), 'I;16N': (7, None)}


def filled(mode):
  """An image of a mode, which shows COLOUR or gray, and black in a corner where it can."""
  value = MODES[mode][0]
  if mode in ('P', 'PA'):
    image = Image.new('P', (WIDTH, HEIGHT), 3)
    image.putpalette([*[9] * 9, *COLOUR])
    if mode == 'PA':
      image = image.convert('PA')
      image.putalpha(51)
    return image
  return Image.new(mode, (WIDTH, HEIGHT), value)


@pytest.mark.parametrize('mode', MODES)
def test_every_mode(mode, monkeypatch, user_error):
  monkeypatch.setattr(Image, 'open', lambda source, formats: filled(mode))
  expected = MODES[mode][1]
  if expected is None:
    with user_error('image x', f'mode {mode}', '; '):
      decode('image x', 'file')
    return
  pixels = decode('image x', 'file').pixels
  assert pixels.shape == (HEIGHT, WIDTH, len(expected)) and pixels.dtype == np.uint8
  np.testing.assert_allclose(pixels.astype(int), np.broadcast_to(expected, pixels.shape), atol=2)  # HSV and Lab are coarse.


def test_pillow_has_no_mode_that_is_not_tried():
  known = set(Image.MODES) | set(getattr(ImageMode, '_modes', {}))
  assert known - {mode for mode in known if mode.startswith('BGR;')} <= MODES.keys()


# Where a mode can be stored with an orientation: the container, and the modes that it stores.
CONTAINERS = {
    'TIFF': (['1', 'L', 'P', 'RGB', 'RGBA', 'LA', 'PA', 'CMYK', 'YCbCr', 'RGBX', 'I', 'F', 'I;16', 'LAB'], 0),
    'JPEG': (['L', 'RGB', 'CMYK'], 24), 'WEBP': (['L', 'RGB', 'RGBA'], 0), 'PNG': (['1', 'L', 'P', 'RGB', 'RGBA', 'LA'], 0)}


def striped(mode):
  """An image that no turn leaves as it is: a gray or coloured corner on black, smooth enough for JPEG; and what it shows."""
  pixels = np.zeros((16, 24, 3), np.uint8)
  pixels[:8, :16] = COLOUR if mode in ('P', 'PA', 'RGB', 'RGBA', 'RGBX', 'CMYK', 'YCbCr', 'LAB') else (255,) * 3
  image = Image.fromarray(pixels)
  if mode in ('P', 'PA'):
    image = image.quantize(2)
  if mode == 'LA':
    image = image.convert('L')
  return image.convert(mode) if mode != 'I;16' else Image.new(mode, (24, 16)), pixels


@pytest.mark.parametrize(('kind', 'mode'), [(kind, mode) for kind, (modes, _) in CONTAINERS.items() for mode in modes])
def test_every_stored_mode_in_every_orientation(kind, mode, user_error):
  image, expected = striped(mode)
  tolerance = max(CONTAINERS[kind][1], 2 if mode in ('CMYK', 'YCbCr', 'LAB') else 0)
  for orientation, turned in TURNS.items():
    options = {'tiffinfo': {274: orientation}} if kind == 'TIFF' else {'exif': b'Exif\0\0' + exif(orientation)}
    options |= {'JPEG': {'quality': 98, 'subsampling': 0}, 'WEBP': {'lossless': True}}.get(kind, {})
    content = saved(image, kind, **options)
    if MODES[mode][1] is None:
      with user_error('image x', '; '):
        read(content)
      continue
    pixels, wanted = read(content).pixels, plain(turned(expected))
    assert pixels.shape == wanted.shape
    np.testing.assert_allclose(pixels.astype(int), wanted, atol=tolerance)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP'])
@pytest.mark.parametrize('damaged', [
    b'', b'MM', b'garbage!garbage!', exif(3)[:-9], exif(9), exif(3).replace(b'\x01\x12\0\x03', b'\x01\x12\0\x02')])
@pytest.mark.filterwarnings('ignore:Corrupt EXIF data')  # Pillow's.
def test_damaged_orientations_turn_nothing(kind, damaged):
  pixels = np.zeros((16, 16, 3), np.uint8)
  pixels[:8] = 255
  options = {'lossless': True} if kind == 'WEBP' else {}
  picture = read(saved(Image.fromarray(pixels), kind, exif=b'Exif\0\0' + damaged, **options))
  np.testing.assert_array_equal(picture.pixels, pixels[..., :1])
  assert picture.remarks == ()


def test_a_damaged_png_with_orientation_is_refused(user_error):
  content = png(RNG.integers(0, 256, (9, 9, 3)), 8, 2, orientation=3)
  with user_error('image x cannot be read'):
    read(content[:-60])


def test_opacity_is_exact():
  """All pairs of a value and an opacity, against exact rounding; a value that is fully opaque is untouched."""
  value, alpha = np.meshgrid(np.arange(256), np.arange(256))
  picture = read(png(np.stack([value, alpha], axis=-1), 8, 4))
  exact = value * alpha / 255 + 255 - alpha
  assert np.abs(picture.pixels[..., 0] - exact).max() <= 0.503  # Pillow's own rounding.
  np.testing.assert_array_equal(picture.pixels[255, :, 0], np.arange(256))
  np.testing.assert_array_equal(picture.pixels[0, :, 0], 255)


def test_black_strokes_on_transparency_are_seen():
  samples = np.zeros((6, 6, 4), int)
  samples[2:4, :, 3] = 255
  assert read(png(samples, 8, 6)).pixels[..., 0].tolist() == [[255] * 6] * 2 + [[0] * 6] * 2 + [[255] * 6] * 2


def test_full_opacity_is_no_remark():
  samples = RNG.integers(0, 256, (4, 4, 4))
  samples[..., 3] = 255
  picture = read(png(samples, 8, 6))
  assert picture.remarks == ()
  np.testing.assert_array_equal(picture.pixels, samples[..., :3])


@pytest.mark.parametrize('kind', ['GIF', 'PNG', 'TIFF', 'BMP', 'WEBP', 'PPM'])
@pytest.mark.parametrize('mode', ['L', 'P', 'RGB'])
def test_gray_is_gray_in_every_container(kind, mode):
  gray = RNG.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
  image = Image.fromarray(gray).convert(mode)
  options = {'lossless': True} if kind == 'WEBP' else {}
  if (kind, mode) in (('PPM', 'P'), ('WEBP', 'P')):
    image = image.convert('RGB')
  np.testing.assert_array_equal(read(saved(image, kind, **options)).pixels, gray[..., None])


@pytest.mark.parametrize('kind', ['GIF', 'TIFF', 'WEBP', 'PNG'])
def test_of_several_frames_the_first_is_read(kind):
  frames = [Image.new('RGB', (4, 4), colour) for colour in ('red', 'blue', 'green')]
  options = {'lossless': True} if kind == 'WEBP' else {}
  picture = read(saved(frames[0], kind, save_all=True, append_images=frames[1:], **options))
  assert picture.remarks == ('frames',)
  np.testing.assert_array_equal(picture.pixels, np.broadcast_to([255, 0, 0], (4, 4, 3)))
  assert read(saved(frames[0], kind, **options)).remarks == ()


@pytest.mark.parametrize(('channels', 'expected'), [(1, (124,)), (3, COLOUR), (4, (*COLOUR, 255))])
def test_channels_can_be_wished(channels, expected):
  np.testing.assert_array_equal(read(png(np.full((2, 2, 3), COLOUR), 8, 2), channels=channels).pixels[0, 0], expected)
  gray = read(png(np.full((2, 2, 1), 9), 8, 0), channels=channels).pixels
  assert gray[0, 0].tolist() == [9] * min(channels, 3) + [255] * (channels == 4)


def test_what_runs_other_programs_is_not_opened(user_error):
  assert not {'EPS', 'WMF'} & set(formats())
  assert {'.png', '.jpg', '.jpeg', '.jfif', '.webp', '.gif', '.tif', '.bmp', '.ppm'} <= suffixes()
  assert not {'.eps', '.ps', '.mpg', '.h5', '.pdf'} & suffixes()
  with user_error('image x cannot be read'):
    read(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n')


SMALL = [saved(Image.fromarray(RNG.integers(0, 256, (7, 9, 3), np.uint8)).convert(mode), kind)
         for kind, mode in (('PNG', 'RGB'), ('PNG', 'P'), ('GIF', 'RGB'), ('JPEG', 'RGB'), ('TIFF', 'RGB'), ('BMP', 'RGB'),
                            ('PPM', 'RGB'), ('WEBP', 'RGBA'), ('TGA', 'RGB'), ('ICO', 'RGBA'), ('JPEG2000', 'RGB'))]


@pytest.mark.filterwarnings('ignore')  # Pillow's remarks on damaged files.
def test_damaged_files_end_in_pixels_or_in_one_line():
  rng = np.random.default_rng(1)
  refused = 0
  for i in range(2000):
    content = bytearray(SMALL[i % len(SMALL)])
    for place in rng.integers(0, len(content), rng.integers(1, 5)):
      content[place] = rng.integers(0, 256)
    content = bytes(content[:rng.integers(1, len(content) + 1)] if i % 3 == 0 else content)
    try:
      pixels = read(content).pixels
      assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] in (1, 3) and pixels.size
    except decoding.UserError as error:
      assert '\n' not in str(error)
      refused += 1
  assert 200 < refused < 2000


@pytest.mark.parametrize(('tag', 'value'), [(282, 'x'), (282, -72)])
def test_odd_tags_beside_the_orientation(tag, value):
  data = Image.Exif()
  data[274], data[tag] = 6, value
  try:
    content = data.tobytes()
  except (TypeError, struct.error):  # Pillow would not write it; cameras did.
    content = oddly_tagged(tag, value)
  samples = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
  picture = read(saved(Image.fromarray(samples), 'PNG', exif=content))
  np.testing.assert_array_equal(picture.pixels, TURNS[6](samples))
  assert picture.remarks == ('turned',)


def oddly_tagged(tag, value):
  """EXIF data, little-endian, of orientation 6 and a tag of text or of a signed fraction."""
  kind, content = (2, f'{value}\0'.encode()) if isinstance(value, str) else (10, struct.pack('<ii', value, 1))
  entries = [struct.pack('<HHIHH', 274, 3, 1, 6, 0),
             struct.pack('<HHI', tag, kind, len(content) if kind == 2 else 1) + (
                 content.ljust(4, b'\0') if len(content) <= 4 else struct.pack('<I', 8 + 2 + 24 + 4))]
  tail = content if len(content) > 4 else b''
  return b'Exif\0\0II*\0' + struct.pack('<I', 8) + struct.pack('<H', 2) + b''.join(entries) + struct.pack('<I', 0) + tail
