# `trtbert compile` and `trtbert build` on a machine with a GPU: CUDA, TensorRT with its Python, our plugins, torch.
ARG BASE_IMAGE=nvcr.io/nvidia/tensorrt:25.11-py3

FROM ${BASE_IMAGE} AS plugins
RUN apt-get update && apt-get install --yes --no-install-recommends cmake g++ make && apt-get clean && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY CMakeLists.txt CMakePresets.json ./
COPY plugins plugins
COPY tests/plugins/driver tests/plugins/driver
COPY tests/plugins/host tests/plugins/host
COPY trtbert/version.py trtbert/version.py
RUN cmake --preset plugins && cmake --build --preset plugins --parallel && cmake --install build/plugins --prefix /opt/plugins
COPY docker/triton_plugins.cpp docker/
RUN g++ -std=c++17 -O2 -fPIC -shared -Wall -Wextra -Werror -I/usr/local/cuda/include docker/triton_plugins.cpp \
    -o /opt/plugins/lib/libtrtbert_triton.so -ldl

FROM ${BASE_IMAGE} AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv && apt-get clean && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY trtbert trtbert
# TensorRT's Python module is the base's own, so that it fits the base's libraries and the headers that the plugins were built with.
RUN --mount=type=secret,id=pip-conf,target=/etc/pip.conf --mount=type=secret,id=ca,target=/run/secrets/ca.pem \
    if [ -s /run/secrets/ca.pem ]; then export PIP_CERT=/run/secrets/ca.pem; fi \
    && python3 -m venv --system-site-packages /opt/trtbert \
    && /opt/trtbert/bin/pip install --no-cache-dir --constraint constraints.txt ".[compress,openvino,tensorrt]"

FROM ${BASE_IMAGE}
RUN groupadd --gid 10001 trtbert && useradd --uid 10001 --gid trtbert --no-create-home --shell /usr/sbin/nologin trtbert
COPY --from=build /opt/trtbert /opt/trtbert
COPY --from=plugins /opt/plugins /usr/local
# What torch, matplotlib and the like keep for themselves goes where a read-only root has its tmpfs. ONNX Runtime sends no telemetry.
ENV PATH=/opt/trtbert/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1 HOME=/tmp
USER 10001:10001
WORKDIR /work
# It runs one command and ends; nothing in it listens.
HEALTHCHECK NONE
ENTRYPOINT ["trtbert"]
CMD ["--help"]
