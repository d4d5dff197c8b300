# The server in a container: built on Debian 12 and run on it as a user without rights.
# SPDX-License-Identifier: Apache-2.0
#
# docker build -t thermocline .
# docker run --rm -p 8080:8080 -p 50051:50051 thermocline                       the demo model
# docker run ... -v /srv/models:/models:ro thermocline /models/model.gguf       another one

FROM debian:12 AS build
WORKDIR /source
COPY scripts/install-deps.sh scripts/
RUN ./scripts/install-deps.sh
COPY . .
RUN cmake --preset cpu -DTHERMOCLINE_TESTS=OFF -B build/image \
 && cmake --build build/image --target thermocline \
 && strip build/image/cli/thermocline
# The packages that own the libraries which the program is linked against. By name, since dpkg knows some of them below /lib and some below
# /usr/lib, which are the same folder.
RUN ldd build/image/cli/thermocline | awk '$2 == "=>" { print $3 }' | xargs -n 1 realpath | xargs -n 1 basename | sed 's#^#*-linux-gnu*/#' \
  | xargs dpkg-query --search | cut -d : -f 1 | sort -u > build/image/packages

FROM debian:12
COPY --from=build /source/build/image/packages /tmp/packages
RUN apt-get update -qq \
 && xargs apt-get install -y -qq --no-install-recommends curl < /tmp/packages \
 && rm -rf /var/lib/apt/lists/* /tmp/packages \
 && useradd --system --no-create-home --shell /usr/sbin/nologin thermocline
COPY --from=build /source/build/image/cli/thermocline /usr/local/bin/thermocline
COPY --from=build /source/models/demo /usr/share/thermocline/demo
USER thermocline
EXPOSE 8080 50051
# Loading a large model takes minutes.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
  CMD ["curl", "--fail", "--silent", "--show-error", "--output", "/dev/null", "http://127.0.0.1:8080/health"]
STOPSIGNAL SIGTERM
# Ports are published by whoever runs the image; without --api-keys everybody who reaches them may call.
ENTRYPOINT ["thermocline", "serve", "--listen", "0.0.0.0:50051", "--http", "0.0.0.0:8080"]
CMD ["/usr/share/thermocline/demo"]
