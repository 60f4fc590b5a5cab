#!/usr/bin/env bash
# What the project wants to know from an accelerator, in one command:
#
#   bash benchmarks/accelerator.sh OUT [DATA_DIR]     one GPU or TPU; DATA_DIR holds TFDS's cifar10, for the whole search
#   TINY=1 bash benchmarks/accelerator.sh OUT         the same on a CPU at a small size, in minutes: does it run?
#
# OUT gets, for each lowering, throughput-LOWERING.md and .jsonl (plain module, naive vmap, populations of 1 to 64 in bfloat16,
# PyTorch where it is installed); for spaces of cells cells-SPACE-WAY.md and .jsonl, candidates in turn and side by side with all
# branches, from which the rates 'accelerator' of enas_jax/families/cost.py follow (guesses until then); and search/, the whole CIFAR-10 search with width cap 64 at the paper's schedule, without its final
# training of 600 epochs, whose seconds by phase and population report stand in search/result.json. The authors' took 20,935 s.
set -euo pipefail
mkdir -p "${1:?give a folder for the results}"
out=$(realpath "$1") data_dir=${2:+$(realpath "$2")}
cd "$(dirname "$0")/.."
rows=plain,module,vmap,population
python -c 'import torch' 2>/dev/null && rows=$rows,torch

if [ -n "${TINY:-}" ]; then
  sizes=(--width_scale=1/16 --depth_scale=1/3 --image_size=16 --batch=8 --steps=2 --candidates=2 --vmap_sample=1 --population=1,2
         --rounds=1 --torch_compile=0 --peak_gflops=100 --peak_gbytes=10)
  cells=(nasbench201:channels=2,cells=1) slots=2
  search=(--config.data.name=fashion_mnist_10k --config.data.augmentation.crop_size=28 --config.chain.min_depth=3
          --config.chain.max_depth=4 --config.chain.min_width=2 --config.chain.max_width=3 --config.epochs.first=1
          --config.epochs.per_layer=0 --config.epochs.per_width_step=0 --config.epochs.micro=1
          --config.training.batch_size=256 --config.training.keep_last_batch=false)
else
  sizes=(--full --dtype=bfloat16)
  cells=(nasbench201: nasbench101: nasbench_macro: darts:cells=8,channels=16) slots=1,16
  search=(${data_dir:+"--data_dir=$data_dir"})
fi

for lowering in shifts xla; do
  python benchmarks/throughput.py "${sizes[@]}" --rows="$rows" --lowering="$lowering" --json="$out/throughput-$lowering.jsonl" \
    | tee "$out/throughput-$lowering.md"
  rows=population  # The rest does not depend on it.
done
for space in "${cells[@]}"; do
  for way in yes no; do
    python benchmarks/throughput.py "${sizes[@]}" --rows=module,population --population="$slots" --side_by_side=$way --lowering=xla \
      --space="${space%%:*}" --set="${space#*:}" --json="$out/cells-${space%%:*}-$way.jsonl" | tee "$out/cells-${space%%:*}-$way.md"
  done
done
time python -m enas_jax.search --config=experiments/cifar10_cap64_paper.py --workdir="$out/search" --config.epochs.final=1 ${search[@]+"${search[@]}"}
