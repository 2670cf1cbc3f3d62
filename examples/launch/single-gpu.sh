#!/usr/bin/env bash
# One GPU of 80 GB: adapters (LoRA) on Qwen3-VL-8B.
#
#   bash examples/launch/single-gpu.sh                            # start
#   bash examples/launch/single-gpu.sh --resume                   # go on after a crash, a kill or Ctrl-C
#   bash examples/launch/single-gpu.sh --set learning_rate=5e-6   # change a setting
#   CONFIG=configs/world-gpu.toml bash examples/launch/single-gpu.sh
#   COMMAND=sft CONFIG=configs/sft-qwen3-vl-8b-lora.toml bash examples/launch/single-gpu.sh
set -euo pipefail

exec zoomzero "${COMMAND:-train}" "${CONFIG:-configs/qwen3-vl-8b-lora.toml}" "$@"
