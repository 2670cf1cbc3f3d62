#!/usr/bin/env bash
# Eight GPUs of one machine, weights, gradients and optimizer spread over them (FSDP2): all weights of a 7B model.
# Every GPU also holds two whole copies in bfloat16: one draws the rollouts, one is the frozen reference.
#
#   bash examples/launch/8-gpus-fsdp.sh [--resume] [--set NAME=VALUE]...
#   CONFIG=configs/qwen2.5-vl-7b-stage2.toml bash examples/launch/8-gpus-fsdp.sh
#   COMMAND=sft CONFIG=configs/sft-qwen3-vl-8b-lora.toml bash examples/launch/8-gpus-fsdp.sh
set -euo pipefail

gpus=${GPUS:-8}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-8}
# Rows differ in length from step to step; growing blocks instead of new ones keeps memory from splintering.
export PYTORCH_CUDA_ALLOC_CONF=${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}

exec torchrun --standalone --nproc-per-node "$gpus" \
  -m zoomzero "${COMMAND:-train}" "${CONFIG:-configs/qwen2.5-vl-7b-stage1.toml}" --set fsdp=true "$@"
