# `trtbert serve` for a CPU: Python, ONNX Runtime, OpenVINO and tokenizers; no torch.
ARG BASE_IMAGE=docker.io/library/debian:bookworm-slim

FROM ${BASE_IMAGE} AS build
ARG EXTRAS=serve,openvino
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv && apt-get clean && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY trtbert trtbert
# Secrets are there while this runs and in no layer: a pip.conf of the builder, and the certificates of its index.
RUN --mount=type=secret,id=pip-conf,target=/etc/pip.conf --mount=type=secret,id=ca,target=/run/secrets/ca.pem \
    if [ -s /run/secrets/ca.pem ]; then export PIP_CERT=/run/secrets/ca.pem; fi \
    && python3 -m venv /opt/trtbert \
    && /opt/trtbert/bin/pip install --no-cache-dir --constraint constraints.txt ".[${EXTRAS}]" \
    && /opt/trtbert/bin/pip uninstall --yes --quiet pip setuptools \
    # OpenVINO's parts for other devices, 60 MB.
    && cd /opt/trtbert/lib/python3*/site-packages \
    && rm -f openvino/libs/libopenvino_intel_gpu_plugin.so openvino/libs/libopenvino_intel_npu_plugin.so openvino/libs/cache.json

FROM ${BASE_IMAGE}
RUN apt-get update && apt-get install --yes --no-install-recommends python3 && apt-get clean && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 trtbert && useradd --uid 10001 --gid trtbert --no-create-home --shell /usr/sbin/nologin trtbert
COPY --from=build /opt/trtbert /opt/trtbert
# Since 1.29 ONNX Runtime sends telemetry from Linux, unless told not to.
ENV PATH=/opt/trtbert/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1 \
    TRTBERT_SERVE_HOST=0.0.0.0 TRTBERT_SERVE_PORT=8000
USER 10001:10001
WORKDIR /packages
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"TRTBERT_SERVE_PORT\"]}/v2/health/ready', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["trtbert"]
CMD ["serve", "--help"]
