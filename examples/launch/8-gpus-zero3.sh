#!/usr/bin/env bash
# Eight GPUs of one machine under DeepSpeed ZeRO-3 instead of FSDP2: `pip install deepspeed` first. UNTESTED on GPUs: it has
# started, stepped and saved on two CPU processes (DeepSpeed 0.19.8, 2026-11-30), and fails there with validation and a head in
# chunks; `8-gpus-fsdp.sh` is the tested way.
# Every process loads the whole model into the machine's memory before it is shared.
#
#   bash examples/launch/8-gpus-zero3.sh [--resume] [--set NAME=VALUE]...
set -euo pipefail

gpus=${GPUS:-8}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-8}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

exec torchrun --standalone --nproc-per-node "$gpus" -m zoomzero "${COMMAND:-sft}" \
  "${CONFIG:-configs/sft-qwen3-vl-8b-lora.toml}" --set trainer.deepspeed="$here/zero3.json" "$@"
