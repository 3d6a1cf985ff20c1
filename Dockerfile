# One Dockerfile for every service of our own; GROUP chooses the service's dependency group in pyproject.toml.
#
# Rule 1. Dependencies stand in layers before the code, and what all groups share stands first: a change of code rebuilds
#         seconds, and five images keep the large libraries once.
# Rule 2. Versions and hashes come from requirements.lock alone, the build backend's too.
# Rule 3. Nothing in the image is writable by its user except the folders that volumes are mounted on.
FROM python:3.11-slim-bookworm

ENV PATH=/opt/venv/bin:$PATH \
    VIRTUAL_ENV=/opt/venv \
    UV_NO_CACHE=1 \
    UV_LINK_MODE=copy \
    PYTHONUNBUFFERED=1

RUN pip install --quiet --no-cache-dir --root-user-action=ignore uv==0.13.8 \
 && python -m venv --without-pip /opt/venv

WORKDIR /src
COPY pyproject.toml requirements.lock ./

# Shared by all: the clients, and the `fraudstream` command's own libraries.
RUN uv pip install --quiet --compile-bytecode --group cli hatchling -c requirements.lock

ARG GROUP
RUN test -n "$GROUP" || { echo "build argument GROUP: name a dependency group of pyproject.toml" >&2; exit 2; }; \
    uv pip install --quiet --compile-bytecode --group "$GROUP" -c requirements.lock

COPY . .
RUN uv pip install --quiet --compile-bytecode --no-deps --no-build-isolation .

# A volume that is mounted on these for the first time takes over their owner and content. The feature worker's kernels
# are compiled here, not at its first start.
ENV FRAUD_STATE_DIR=/var/lib/fraudstream \
    NUMBA_CACHE_DIR=/var/cache/numba \
    HOME=/tmp
RUN groupadd --gid 10001 fraud \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin fraud \
 && mkdir -p /var/lib/fraudstream/lake /var/lib/fraudstream/models /var/lib/fraudstream/worlds /var/cache/numba \
 && if [ "$GROUP" = stream-features ]; then cd / && python -m adapters.compile_fold; fi \
 && chown -R fraud:fraud /var/lib/fraudstream /var/cache/numba

USER 10001:10001
WORKDIR /var/lib/fraudstream
