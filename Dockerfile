# One image for every role: `docker run offbeat` serves all of them on one machine;
# `api`, `worker`, `scheduler` and `migrate` are its other commands.

FROM node:22-bookworm-slim AS page
WORKDIR /page
COPY service/dashboard/package.json service/dashboard/package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund \
    && mkdir vendor \
    && cp node_modules/htmx.org/dist/htmx.min.js \
          node_modules/uplot/dist/uPlot.iife.min.js \
          node_modules/uplot/dist/uPlot.min.css \
          vendor/

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/offbeat
# The dependencies first: this layer is built anew only when they change.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > requirements.txt \
    && /opt/offbeat/bin/pip install --no-cache-dir -c constraints.txt -r requirements.txt
COPY README.md LICENSE ./
COPY models models
COPY service service
COPY --from=page /page/vendor service/dashboard/static/vendor
RUN /opt/offbeat/bin/pip install --no-cache-dir -c constraints.txt .

FROM python:3.11-slim-bookworm
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Offbeat" \
      org.opencontainers.image.description="Multi-tenant metrics: learned anomalies, YAML rules, on-call alerting" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# /data and /models belong to the user, so that fresh volumes mounted there do too.
RUN groupadd --gid 10001 offbeat \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin offbeat \
    && install -d -o 10001 -g 10001 -m 0750 /data /models
COPY --from=build /opt/offbeat /opt/offbeat
COPY alert_rules.yaml /etc/offbeat/alert_rules.yaml
# Nothing outside /data, /models and /tmp is written: the root file system may be read-only.
ENV PATH=/opt/offbeat/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/data \
    JOBLIB_TEMP_FOLDER=/tmp \
    OFFBEAT_DATA_DIR=/data \
    OFFBEAT_HOST=0.0.0.0 \
    ALERT_RULES=/etc/offbeat/alert_rules.yaml
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8000 9100
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('OFFBEAT_PORT', '8000')}/healthz\", timeout=4)"]
ENTRYPOINT ["offbeat"]
CMD ["serve"]
