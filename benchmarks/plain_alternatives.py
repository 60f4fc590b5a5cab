"""What plain alternatives reach on the default search's images: scikit-learn, and a hand-written CNN in PyTorch.

    python benchmarks/plain_alternatives.py --cpu_seconds=500 [--rows=svc,boosting,cnn] [--widths=16,40] [--seeds=2]

The CNN is three pairs of 3x3 convolutions with batch norm at full, half and quarter resolution, global average pooling and a
linear layer, trained as well as we know: SGD with Nesterov momentum, rate linear to zero after a warm-up, label smoothing,
weight decay, horizontal flips and random shifts by up to two pixels. Its epochs are as many as `cpu_seconds` pay for. Choose
settings on held-out training images (`--validate`); the defaults were not tuned yet.
Prints a row each: test accuracy, parameters, CPU seconds.
"""
import argparse
import time

import numpy as np

from enas_jax import data

SHIFT = 2


def cnn(train, score, *, width, seed, cpu_seconds, rate, decay, batch, shift):
  """Trains the CNN and returns accuracy, parameters and epochs."""
  import torch
  from torch import nn
  from torch.nn import functional

  torch.manual_seed(seed)
  torch.set_num_threads(1)  # The most a CPU second; two threads take twice the CPU time on layers this small.
  (images, labels), (test, truth) = train, score
  mean, std = images.mean() / 255, images.std() / 255
  x, t = (((torch.from_numpy(a).float() / 255 - mean) / std)[:, None] for a in (images, test))
  y = torch.from_numpy(labels.astype(np.int64))
  layers, before = [], 1
  for stage in range(3):
    for pair in range(2):
      stride, now = (2 if stage and not pair else 1), width << stage
      layers += [nn.Conv2d(before, now, 3, stride, 1, bias=False), nn.BatchNorm2d(now), nn.ReLU()]
      before = now
  model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, int(labels.max()) + 1))
  model = model.to(memory_format=torch.channels_last)
  optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=decay, nesterov=True)
  loss = nn.CrossEntropyLoss(label_smoothing=0.1)

  def epoch(rate_of):
    """Trains on every image once; `rate_of` gives the rate at a part of the epoch, in [0, 1)."""
    model.train()
    order = torch.randperm(len(x))
    for step in range(len(x) // batch):
      for group in optimizer.param_groups:
        group['lr'] = rate_of(step / (len(x) // batch))
      chosen = order[step * batch:(step + 1) * batch]
      inputs = x[chosen]
      flipped = torch.rand(batch, 1, 1, 1) < 0.5
      inputs = torch.where(flipped, inputs.flip(3), inputs)
      if shift:
        padded = functional.pad(inputs, (shift,) * 4, value=float(-mean / std))
        dy, dx = (torch.randint(0, 2 * shift + 1, (batch,)) for _ in range(2))
        rows = (dy[:, None] + torch.arange(28))[:, None, :, None]
        columns = (dx[:, None] + torch.arange(28))[:, None, None, :]
        inputs = padded[torch.arange(batch)[:, None, None, None], 0, rows, columns]
      optimizer.zero_grad()
      loss(model(inputs.contiguous(memory_format=torch.channels_last)), y[chosen]).backward()
      optimizer.step()

  weights = {name: value.clone() for name, value in model.state_dict().items()}
  started = time.process_time()
  epoch(lambda part: 0.1 * rate)  # To know what an epoch takes.
  taken = time.process_time() - started
  epochs = max(1, int((cpu_seconds - taken) / taken))
  model.load_state_dict(weights)
  optimizer.state.clear()
  for number in range(epochs):
    epoch(lambda part, done=number: rate * min(1.0, (done + part) / max(0.5, epochs * 0.1)) * (1 - (done + part) / epochs))
  model.eval()
  with torch.no_grad():
    predicted = torch.cat([model(part).argmax(1) for part in t.split(500)]).tolist()
  return float(np.mean(np.array(predicted) == truth)), sum(p.numel() for p in model.parameters()), epochs


def main():
  """Trains and prints."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--cpu_seconds', type=float, default=500)
  parser.add_argument('--rows', default='svc,boosting,cnn')
  parser.add_argument('--widths', default='16,40', help='of the CNN, by commas: 16 has 73,000 parameters')
  parser.add_argument('--seeds', type=int, default=1)
  parser.add_argument('--rate', type=float, default=0.1)
  parser.add_argument('--decay', type=float, default=1e-3)
  parser.add_argument('--batch', type=int, default=64)
  parser.add_argument('--shift', type=int, default=SHIFT)
  parser.add_argument('--validate', action='store_true', help='score on a fifth of the training images, not on the test part')
  args = parser.parse_args()
  dataset = data.load('fashion_mnist_10k')
  train, score = ((part.images[..., 0], part.labels) for part in (dataset.train, dataset.test))
  if args.validate:
    order = np.random.default_rng(0).permutation(len(train[1]))
    held = order[:len(order) // 5]
    score, train = (tuple(a[chosen] for a in train) for chosen in (held, order[len(order) // 5:]))
  print('| row | accuracy % | parameters | epochs | CPU s |\n| --- | --- | --- | --- | --- |')

  def show(name, accuracy, params='', epochs='', *, started):
    print(f'| {name} | {100 * accuracy:.2f} | {params} | {epochs} | {time.process_time() - started:.0f} |', flush=True)

  flat = [np.asarray(images).reshape(len(images), -1) / 255 for images, _ in (train, score)]
  for name in args.rows.split(','):
    started = time.process_time()
    if name == 'cnn':
      for width in map(int, args.widths.split(',')):
        for seed in range(args.seeds):
          started = time.process_time()
          accuracy, params, epochs = cnn(
              train, score, width=width, seed=seed, cpu_seconds=args.cpu_seconds, rate=args.rate, decay=args.decay,
              batch=args.batch, shift=args.shift)
          show(f'cnn, width {width}', accuracy, f'{params:,}', epochs, started=started)
      continue
    if name == 'svc':
      from sklearn.svm import SVC
      model = SVC(C=10, gamma='scale')
    elif name == 'boosting':
      from sklearn.ensemble import HistGradientBoostingClassifier
      model = HistGradientBoostingClassifier(max_iter=300, learning_rate=0.1, random_state=0)
    else:
      parser.error(f'--rows={name}: give some of svc, boosting, cnn')
    model.fit(flat[0], train[1])
    show(name, float((model.predict(flat[1]) == score[1]).mean()), started=started)


if __name__ == '__main__':
  main()
