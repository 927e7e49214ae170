# Training and alignment on GPUs.
#
# In: a base with Python 3.11 or 3.12 (BASE), gpu.lock, the wheel in dist/ (`make wheel`), and wheels/gpu, from which alone
# dependencies are taken where it holds any. Packages that the base has in the lock's very versions are used from
# there: PyTorch's runtime image brings PyTorch and CUDA's libraries; on a plain Python they are installed from the lock.
# Out: an image without source tree, in which a change of code makes one small layer anew. Needs BuildKit;
# `docker/build gpu` gives every argument and secret. The driver and its tools come from the node.
ARG BASE=pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime

FROM ${BASE} AS dependencies
RUN python3 -m venv /opt/tools && python3 -m venv --without-pip --system-site-packages /opt/rewardloop
# The secrets (pip's configuration, a certificate authority) are read while this runs, and stay in no layer.
# setuptools comes first: a dependency without a wheel is built with the pinned one, in no environment of its own.
# Nothing is taken out: torch.compile reads the headers.
RUN --mount=type=bind,source=gpu.lock,target=/run/all.lock \
    --mount=type=bind,source=byte_code.py,target=/run/byte_code.py \
    --mount=type=bind,source=wheels/gpu,target=/run/wheels \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.pem,target=/run/ca.pem \
    --mount=type=cache,target=/root/.cache/pip \
    set -eu; \
    if [ -e /run/ca.pem ]; then export PIP_CERT=/run/ca.pem; fi; \
    if ls /run/wheels/*.whl >/dev/null 2>&1; then from="--no-index"; else from=""; fi; \
    install() { /opt/tools/bin/pip --python /opt/rewardloop/bin/python --disable-pip-version-check install --quiet \
        --no-compile --no-deps --require-hashes --no-build-isolation ${from} --find-links /run/wheels "$@"; }; \
    sed -n '/^setuptools==/,/[^\\]$/p' /run/all.lock > /tmp/first.lock; \
    install -r /tmp/first.lock; \
    install -r /run/all.lock; \
    rm /tmp/first.lock; \
    cd /tmp; PYTHONDONTWRITEBYTECODE=1 _KFP_RUNTIME=true /opt/rewardloop/bin/python /run/byte_code.py

FROM dependencies AS code
RUN --mount=type=bind,source=dist,target=/run/dist \
    /opt/tools/bin/pip --python /opt/rewardloop/bin/python --disable-pip-version-check install --quiet \
        --no-compile --no-deps --no-index --ignore-installed --prefix /code /run/dist/rewardloop-*.whl \
    && /opt/rewardloop/bin/python -m compileall -q --invalidation-mode unchecked-hash /code

FROM ${BASE}
RUN groupadd --gid 10001 rewardloop \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin rewardloop \
    && install -d -o 10001 -g 10001 /srv/rewardloop
# As in the CPU image; compiled kernels are kept for as long as the container is.
ENV PATH=/opt/rewardloop/bin:${PATH} \
    HOME=/tmp \
    USER=rewardloop \
    LOGNAME=rewardloop \
    XDG_CACHE_HOME=/tmp/cache \
    HF_HOME=/tmp/cache/huggingface \
    MPLCONFIGDIR=/tmp/cache/matplotlib \
    TORCHINDUCTOR_CACHE_DIR=/tmp/cache/inductor \
    TRITON_CACHE_DIR=/tmp/cache/triton \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    REWARDLOOP_LOG_FORMAT=json \
    MLFLOW_DISABLE_TELEMETRY=true \
    HF_HUB_DISABLE_TELEMETRY=1 \
    GX_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1 \
    OMP_WAIT_POLICY=PASSIVE \
    TOKENIZERS_PARALLELISM=false \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=dependencies /opt/rewardloop /opt/rewardloop
WORKDIR /srv/rewardloop
USER 10001:10001
EXPOSE 8080
# Steps are given a command and are over when it ends; this is the server's, and what starts without one is the server.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
CMD ["rewardloop", "serve", "--host", "0.0.0.0"]
COPY --from=code /code /opt/rewardloop
ARG BASE
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="rewardloop-gpu" \
      org.opencontainers.image.description="rewardloop's training and alignment on GPUs" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.licenses="Apache-2.0"
