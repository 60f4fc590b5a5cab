"""A network and its accuracy in a few words."""
from enas_jax.spaces import ChainArchitecture, NasBench201Architecture, NasBenchMacroArchitecture
from enas_jax.strategies.summary import summary


def test_a_chain_has_words_of_its_own():
  assert summary(ChainArchitecture(46, (0, 1, 1), (3, 3, 5)), 0.43371) == (
      'depth 3, width 46, 2 convolutions, 1 large kernel at 43.37 %')


def test_others_are_as_they_print_and_cut():
  assert summary(NasBenchMacroArchitecture((1,) * 8), 0.9) == '11111111 at 90.00 %'
  text = summary(NasBench201Architecture((0,) * 6), 0.1)
  assert text == '|none~0|+|none~0|none~1|+|none~0|none~1|none~... at 10.00 %'
