# One image for all processes; the command says which of them a container is.

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv /opt/deployer
ENV PATH=/opt/deployer/bin:$PATH
# what seldom changes comes first: a change of the code leaves these layers as they are
COPY requirements-run.lock ./
RUN pip install --require-hashes -r requirements-run.lock
# what builds the project, by its hash as well; it stays behind in this stage
COPY requirements.lock ./
RUN sed -n '/^setuptools==/,/[^\\]$/p' requirements.lock > build.lock \
    && pip install --require-hashes --target /build/backend -r build.lock
COPY pyproject.toml README.md LICENSE ./
COPY deployer deployer
COPY web web
COPY workers workers
RUN PYTHONPATH=/build/backend pip install --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN useradd --uid 10001 --create-home --home-dir /srv/deployer deployer
COPY --from=build /opt/deployer /opt/deployer
# from within a container, 127.0.0.1 is nobody's address but its own
ENV PATH=/opt/deployer/bin:$PATH PYTHONUNBUFFERED=1 DEPLOYER_WEB_HOST=0.0.0.0
USER 10001
WORKDIR /srv/deployer
EXPOSE 8080
# of the web process; another command needs another check, or none
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import http.client, os, sys; web = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('DEPLOYER_WEB_PORT') or 8080), timeout=4); web.request('GET', '/healthz'); sys.exit(web.getresponse().status != 200)"]
CMD ["deployer", "web"]
