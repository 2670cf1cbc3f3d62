# CPU:   docker build -t zoomzero .
# CUDA:  docker build -t zoomzero:cuda --build-arg BASE=nvidia/cuda:12.8.1-runtime-ubuntu24.04 --build-arg TORCH=cu128 .
# Run:   docker run --rm -v "$PWD:/data" zoomzero ask /data/walk.mp4 "Who enters first?" --model Qwen/Qwen3-VL-2B-Instruct
ARG BASE=ubuntu:24.04
FROM ${BASE}
ARG TORCH=cpu
ENV DEBIAN_FRONTEND=noninteractive PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PATH=/opt/zoomzero/bin:$PATH HF_HOME=/cache/huggingface XDG_CACHE_HOME=/cache
# The base is chosen when the image is built: a version of Python that is named here would fit one of them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/zoomzero
WORKDIR /src
COPY constraints.txt ./
RUN pip install -c constraints.txt torch --index-url "https://download.pytorch.org/whl/${TORCH}"
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install -c constraints.txt ".[parquet,server]" && zoomzero --version
RUN useradd --create-home --uid 10001 asker && mkdir -p /cache && chown asker /cache
USER 10001
WORKDIR /data
VOLUME ["/cache"]
ENTRYPOINT ["zoomzero"]
CMD ["--help"]
