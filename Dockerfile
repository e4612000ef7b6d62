# One image for both ends of the tunnel: the arguments choose, `server run` or `agent run`.
#
#   docker build --tag 0trust .
#   docker run --volume ./config:/config 0trust agent run
#
# docs/howto/containers.md describes the folder /config, ports and updates.

FROM python:3.13-slim-bookworm AS build

# hadolint ignore=DL3008 # the base image fixes the release of Debian; its updates are wanted
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
RUN python -m venv --without-pip /opt/0trust

# The dependencies change less often than the source: this layer stays in the cache.
COPY requirements/image.txt requirements/
RUN python -m pip --python /opt/0trust/bin/python install --require-hashes --requirement requirements/image.txt

# 1: an error instead of a slow image where the data path does not compile.
ARG ZEROTRUST_COMPILE=1
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY src src
RUN python -m pip --python /opt/0trust/bin/python install --no-deps .


FROM python:3.13-slim-bookworm

RUN useradd --uid 1000 --home-dir /config --no-create-home --shell /usr/sbin/nologin zerotrust \
    && install --directory --owner=1000 --group=1000 --mode=0700 /config

COPY --from=build /opt/0trust /opt/0trust
ENV PATH=/opt/0trust/bin:$PATH

USER 1000:1000
WORKDIR /config
VOLUME /config

# Caddy (HTTP, HTTPS, HTTP/3) and the tunnel; an agent listens on no port.
EXPOSE 80 443 443/udp 8443

# A container is the one or the other: the command of the other role fails at once.
HEALTHCHECK --interval=30s --timeout=15s --start-period=30s \
    CMD ["sh", "-c", "0trust server status -c /config/server.yaml || 0trust agent status -c /config/agent.yaml"]

ENTRYPOINT ["0trust"]
CMD ["--help"]
