# The one image: sidecar, node agent and operator, for amd64 and arm64. docs/image.md says what is in it.
#   docker build -t tcpcrypt .        or        buildah build -t tcpcrypt .
# BASE is Debian 12 with apt; nothing of it is in the image. Name it by digest for a build that gives the same bytes
# again.
ARG BASE=docker.io/library/debian:12-slim

# Of the machine that builds, whatever the image is for: nothing of the image runs here.
FROM --platform=${BUILDPLATFORM} ${BASE} AS build
# npm only fetches: what runs is the Node.js of package-lock.json.
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      ca-certificates g++ nlohmann-json3-dev npm \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/tcpcrypt
# A file of further certificate authorities, for a network that has its own.
ARG NODE_EXTRA_CA_CERTS
COPY package.json package-lock.json .npmrc ./
RUN npm ci
ARG TARGETARCH
COPY scripts/architecture scripts/image-sources scripts/node scripts/
# iptables' rules are read back and compared, so its version is part of the product's behaviour.
RUN sh scripts/image-sources ${TARGETARCH} /debian \
      coreutils grep iproute2 iptables=1.8.9-2 libatomic1 libstdc++6 util-linux
COPY . .
RUN sh scripts/build-native ${TARGETARCH} \
 && sh scripts/build-executable ${TARGETARCH} \
 && sh scripts/image-root ${TARGETARCH} /debian /image

FROM scratch
COPY --from=build /image /
ENV PATH=/usr/sbin:/usr/bin
ENTRYPOINT ["/usr/bin/tcpcrypt"]
CMD ["--help"]
