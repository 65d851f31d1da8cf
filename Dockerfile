# The server as a container, for every storage and database: docs/deploy.md, "A container".
#
# A tag and not a digest: every build then gets the base with this month's fixes. Where the same
# base is wanted twice, write behind the tag what
# `docker buildx imagetools inspect python:3.13-slim` names: python:3.13-slim@sha256:…
FROM python:3.13-slim

# A picture is paid for before its line is logged, so no line waits in a buffer.
ENV PYTHONUNBUFFERED=1

# First what seldom changes: exactly the locked packages, each held to its hash. Two locks, so that
# s3:// and cos:// both work. Only crcmod, which Tencent's SDK needs, has no wheel and is built here;
# the base has no compiler, so its faster half is left out.
WORKDIR /src
COPY requirements.lock ./
COPY functions/cloudbase_http/requirements.lock tencent.lock
RUN pip install --root-user-action=ignore --no-cache-dir --disable-pip-version-check \
        --require-hashes --no-deps --only-binary=:all: --no-binary=crcmod \
        -r requirements.lock -r tencent.lock

# The first start, while it may still write, leaves the compiled form of Python's own modules, which
# the base comes without: the user below can write nothing, and would compile them at each start.
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
RUN pip install --root-user-action=ignore --no-cache-dir --disable-pip-version-check \
        --no-index --no-deps --no-build-isolation . \
    && fal-image serve --help > /dev/null

# Only for file:// and sqlite://, and lost with the container unless a volume is mounted here. Open
# to any user: some platforms choose a number of their own.
RUN mkdir -m 1777 /data

# A number, so that Kubernetes can see that it is not root. Nobody has to know its name.
USER 10001:10001
WORKDIR /data

EXPOSE 9000

# It asks nobody but this server, and no proxy of the environment's.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-c", "from http.client import HTTPConnection; c = HTTPConnection('127.0.0.1', 9000, timeout=4); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]

# Ctrl-C: as the first process of a container, Python would not hear of a SIGTERM.
STOPSIGNAL SIGINT

# It refuses to start with a setting that is wrong, names it, and sweeps by itself where there is a
# database. No shell, so that the signal reaches it.
CMD ["fal-image", "serve", "--host", "0.0.0.0", "--port", "9000"]
