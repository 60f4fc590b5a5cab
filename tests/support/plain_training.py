"""What a schedule means, written again by Optax's own functions: the rate of a step, the optimiser, the loss."""
import jax
import numpy as np
import optax
from sklearn.metrics import balanced_accuracy_score
from sklearn.utils.class_weight import compute_class_weight


def sgd(schedule, step, steps):
  """The optimiser of step `step`, of all the training's, where an epoch has `steps`."""
  return optax.chain(
      optax.clip_by_global_norm(schedule.clip_norm), optax.add_decayed_weights(schedule.weight_decay),
      optax.sgd(rate(schedule, step, steps), momentum=schedule.momentum, nesterov=schedule.nesterov))


def rate(schedule, step, steps):
  peak, total = schedule.learning_rate, schedule.epochs * steps
  if schedule.decay == 'epoch_cosine':
    return optax.cosine_decay_schedule(peak, schedule.epochs)(step // steps + schedule.rate_steps_first)
  rise, rest = round(schedule.warmup * total), round(schedule.settle * total)
  fall = total - rise - rest
  down = optax.cosine_decay_schedule(peak, fall) if schedule.decay == 'cosine' else optax.linear_schedule(peak, 0, fall)
  return down(step - rise) if step >= rise else peak * (step + 1) / rise


def loss(logits, labels, smoothing, class_weights=None):
  targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
  each = optax.softmax_cross_entropy(logits, targets)
  return each.mean() if class_weights is None else (each * jax.numpy.asarray(class_weights)[labels]).mean()


def class_weights(schedule, data):
  """scikit-learn's, as a tuple; None if images count alike."""
  if schedule.class_weights == 'equal':
    return None
  labels = np.asarray(data.arrays.labels)
  return tuple(compute_class_weight('balanced', classes=np.arange(data.task.num_classes), y=labels).tolist())


def score(logits, data):
  """The accuracy on the scoring part of the logits of its images."""
  labels, predicted = np.asarray(data.arrays.score_labels[:data.score_size]), np.asarray(logits.argmax(-1))
  return float((predicted == labels).mean()) if data.score_weights is None else balanced_accuracy_score(labels, predicted)
