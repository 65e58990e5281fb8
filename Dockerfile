# The image is the binary and the C library that it is linked with: no shell, no package manager, no user but a number.
#
#   docker build --tag isthmus:0.1.0 .
#
# BUILDER is any Debian with rustup and a C compiler, its C library 2.34 or later: those look names up without further files.
ARG BUILDER=rust:bookworm

FROM ${BUILDER} AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package isthmus
RUN scripts/image-root.sh target/release/isthmus /out

FROM scratch
COPY --from=build /out /
# Nobody in particular. Kubernetes takes a number only for what runAsNonRoot has to believe.
USER 65532:65532
ENTRYPOINT ["/isthmus"]
