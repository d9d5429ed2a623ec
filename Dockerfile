# Images of the services, one target each. Build them from the root of the repository:
#   docker build --target aggregator -t finsecure/aggregator .
# The default PyTorch wheel brings support for graphics cards, which the client's trainer does not
# use. To leave it out, pass the address of an index of CPU wheels as TORCH_INDEX_URL.

FROM python:3.11-slim AS wheel
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY protos/python protos/python
COPY crypto crypto
COPY services services
# The wheel is built apart from what it is installed into, so that no build tool is left behind.
RUN pip wheel --no-deps --wheel-dir /wheels . \
 && python -m venv --without-pip /opt/finsecure

# Every way to run a server is in its image: encrypted rounds, tokens, PostgreSQL, OpenID providers.
FROM wheel AS server
RUN pip --python /opt/finsecure/bin/python install --constraint requirements.lock \
      "$(echo /wheels/*.whl)[homomorphic,hsm,oidc,postgres]"

FROM wheel AS torch
ARG TORCH_INDEX_URL=
RUN pip --python /opt/finsecure/bin/python install --constraint requirements.lock \
      ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} "$(echo /wheels/*.whl)[torch,homomorphic]"

FROM python:3.11-slim AS service
# A service needs no installer; what is not there cannot be used against it.
RUN pip uninstall --yes --root-user-action=ignore setuptools wheel pip \
 && groupadd --system --gid 10001 finsecure \
 && useradd --system --uid 10001 --gid finsecure --no-create-home --shell /usr/sbin/nologin finsecure \
 && install --directory --owner=finsecure --group=finsecure --mode=0700 /var/lib/finsecure
ENV PATH=/opt/finsecure/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
# All that is ever written: keys, identity, database and files. The root file system may be
# read-only.
VOLUME /var/lib/finsecure
STOPSIGNAL SIGTERM

FROM service AS keyservice
COPY --from=server /opt/finsecure /opt/finsecure
EXPOSE 7443 7444
HEALTHCHECK --interval=15s --timeout=10s --start-period=10s --retries=4 \
  CMD ["finsecure-keyservice", "health", "--config", "/etc/finsecure/keyservice.toml"]
ENTRYPOINT ["finsecure-keyservice"]
CMD ["run", "--config", "/etc/finsecure/keyservice.toml"]

FROM service AS aggregator
COPY --from=server /opt/finsecure /opt/finsecure
EXPOSE 7543
HEALTHCHECK --interval=15s --timeout=10s --start-period=10s --retries=4 \
  CMD ["finsecure-aggregator", "health", "--config", "/etc/finsecure/aggregator.toml"]
ENTRYPOINT ["finsecure-aggregator"]
CMD ["run", "--config", "/etc/finsecure/aggregator.toml"]

FROM service AS trustee
COPY --from=server /opt/finsecure /opt/finsecure
EXPOSE 7643
HEALTHCHECK --interval=15s --timeout=10s --start-period=10s --retries=4 \
  CMD ["finsecure-trustee", "health", "--config", "/etc/finsecure/trustee.toml"]
ENTRYPOINT ["finsecure-trustee"]
CMD ["run", "--config", "/etc/finsecure/trustee.toml"]

FROM service AS client
COPY --from=torch /opt/finsecure /opt/finsecure
ENV HOME=/var/lib/finsecure \
    OMP_NUM_THREADS=1
# The party's table and model code are mounted read-only. The client listens on nothing, so there is
# no port and nothing to ask for its health.
ENTRYPOINT ["finsecure-client"]
CMD ["run", "--config", "/etc/finsecure/client.toml"]
