#!/usr/bin/env bash
# Eight GPUs of one machine, a whole model on each (DDP): for adapters, and for models that fit with their optimizer.
# The processes share out the prompts of every batch, so both prompt counts must be multiples of GPUS.
#
#   bash examples/launch/8-gpus-ddp.sh [--resume] [--set NAME=VALUE]...
#   GPUS=4 CONFIG=my.toml bash examples/launch/8-gpus-ddp.sh
#   COMMAND=sft CONFIG=configs/sft-qwen3-vl-8b-lora.toml bash examples/launch/8-gpus-ddp.sh
set -euo pipefail

gpus=${GPUS:-8}
# Processes that decode and tokenize side by side must not each start a thread for every core.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-8}

exec torchrun --standalone --nproc-per-node "$gpus" \
  -m zoomzero "${COMMAND:-train}" "${CONFIG:-configs/qwen3-vl-8b-lora.toml}" "$@"
