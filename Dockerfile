# One static binary on nothing: no shell, no package manager, nothing else to keep patched.
#
#   docker build --tag pgswivel .
#
# The same commit gives the same bytes: SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) in the environment of `docker
# buildx build --output type=image,rewrite-timestamp=true …` does the same for the layers' dates.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY config/ config/
COPY benches/ benches/
COPY src/ src/
ARG SOURCE_DATE_EPOCH=0
# `--target`, though it is the host's own: without it the flag would reach the proc macros, which can't be static.
ENV RUSTFLAGS="-C target-feature=+crt-static"
RUN target=$(rustc --print host-tuple) \
    && cargo build --locked --release --bin pgswivel --target "$target" \
    && mkdir -p /image/etc/ssl/certs \
    && cp "target/$target/release/pgswivel" /image/pgswivel \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    # What a static glibc resolves names with: both are built in, anything else would be loaded, and is not here.
    && echo 'hosts: files dns' > /image/etc/nsswitch.conf \
    && find /image -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

FROM scratch
# No `created`: a date would be the only thing that differs between two builds of one commit.
LABEL org.opencontainers.image.title="pgswivel" \
      org.opencontainers.image.description="A Postgres sidecar proxy: credentials rotate upstream, the application's sessions stay" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image/ /
# A number, because Kubernetes can't tell whether a name is root (`runAsNonRoot`), and there is no /etc/passwd.
USER 65532:65532
# Postgres for this machine alone, and the admin port, which a kubelet probes at the pod's address.
EXPOSE 6432 9632
# SIGTERM drains; it is the default, and stands here because everything else depends on it.
STOPSIGNAL SIGTERM
# Docker's and compose's; ECS and Kubernetes have their own. There is no shell, so it is the exec form.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["/pgswivel", "health"]
ENTRYPOINT ["/pgswivel"]
CMD ["run"]
