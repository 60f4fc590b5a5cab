"""What a schedule means, written again by Optax's own functions: the rate of a step, the optimiser, the loss."""
import jax
import optax


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


def loss(logits, labels, smoothing):
  targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
  return optax.softmax_cross_entropy(logits, targets).mean()
