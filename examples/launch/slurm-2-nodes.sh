#!/usr/bin/env bash
# Two nodes of eight GPUs under Slurm, sharded over all sixteen. Data, videos and `out` lie on a disk that both nodes see.
#
#   sbatch examples/launch/slurm-2-nodes.sh [--set NAME=VALUE]...
#
# The job goes on with what is there: after a node failure or the time limit Slurm may simply start it again.
#SBATCH --job-name=zoomzero
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

config=${CONFIG:-configs/qwen2.5-vl-7b-stage1.toml}
out=${OUT:-outputs/${SLURM_JOB_NAME}-${SLURM_JOB_ID}}
gpus=${GPUS:-8}
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-8}
export PYTORCH_CUDA_ALLOC_CONF=${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}

resume=()
if [[ -f "$out/run.json" ]]; then
  resume=(--resume)
fi

# One torchrun on each node starts a process for each of its GPUs; they meet on the first node. Each of the sixteen takes one
# prompt of an update.
srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node "$gpus" \
  --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$first:${PORT:-29500}" \
  -m zoomzero train "$config" --set out="$out" --set fsdp=true --set mini_batch_size=16 ${resume[@]+"${resume[@]}"} "$@"
