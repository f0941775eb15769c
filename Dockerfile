# A relay in a container.
#
#   docker build -t c2c-relay .
#   docker run -p 7331:7331 -v c2c-relay:/data -v /etc/c2c/relay.token:/run/relay.token:ro \
#     c2c-relay relay serve --token-file /run/relay.token
#
# It listens on 0.0.0.0, and there the relay does not start without a token: in a file as above,
# which must be readable for user 10001, or in C2C_RELAY_TOKEN. Without one the container stops with a
# message that says so; --insecure serves without.
#
# The port is $PORT, as hosting services set it. An argument --listen goes before it.

FROM rust:1-slim-bookworm AS build
# SQLite, zstd and the cryptography are compiled as C; the programs are linked statically.
RUN apt-get update \
  && apt-get install -y --no-install-recommends gcc libc6-dev make \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The target is named in .cargo/config.toml, so the programs are one directory deeper.
RUN cargo build --release --locked --bin c2c --bin c2c-log \
  && mkdir /out \
  && cp target/*/release/c2c target/*/release/c2c-log /out/

FROM debian:stable-slim
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin c2c \
  && install -d -o c2c -m 0700 /data
COPY --from=build /out/c2c /out/c2c-log /usr/local/bin/
USER c2c
ENV HOME=/data \
  C2C_RELAY_PERSIST_DIR=/data \
  PORT=7331
VOLUME /data
EXPOSE 7331
HEALTHCHECK --interval=30s --timeout=5s CMD c2c relay status --relay-url "http://127.0.0.1:$PORT"
ENTRYPOINT ["c2c"]
# With PORT as above this is: relay serve --listen 0.0.0.0:7331
CMD ["relay", "serve"]
