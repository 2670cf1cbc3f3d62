#!/usr/bin/env bash
# Eight GPUs of one machine under DeepSpeed ZeRO-3 instead of FSDP2: `pip install deepspeed` first. UNTESTED on GPUs: on two
# CPU processes it makes the updates that one process makes (DeepSpeed 0.19.8, 2026-11-30). `8-gpus-fsdp.sh` is tested more.
# Every process loads the whole model into the machine's memory before it is shared.
#
#   bash examples/launch/8-gpus-zero3.sh [--resume] [--set NAME=VALUE]...
set -euo pipefail

gpus=${GPUS:-8}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-8}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

exec torchrun --standalone --nproc-per-node "$gpus" -m zoomzero "${COMMAND:-sft}" \
  "${CONFIG:-configs/sft-qwen3-vl-8b-lora.toml}" --set trainer.deepspeed="$here/zero3.json" "$@"
