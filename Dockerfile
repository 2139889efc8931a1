# Two stages: the tools that install stay behind. The same image serves web, worker, beat and migrate.
FROM python:3.13-slim-bookworm AS build
# Bytecode that is known by its source's hash, not by the time of the build.
ENV UV_COMPILE_BYTECODE=1 PYC_INVALIDATION_MODE=checked-hash UV_LINK_MODE=copy UV_NO_CACHE=1
RUN pip install --no-cache-dir uv==0.13.9
# requirements-sentry.txt for an image that can report to Sentry, requirements-otel.txt for one that
# can send traces.
ARG REQUIREMENTS=requirements.txt
WORKDIR /app
COPY requirements*.txt ./
RUN uv venv /venv && VIRTUAL_ENV=/venv uv pip sync --require-hashes "$REQUIREMENTS"

FROM python:3.13-slim-bookworm
# Each container's processes leave their figures for each other on its tmpfs.
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    PROMETHEUS_MULTIPROC_DIR=/tmp/metrics
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin tesslate \
    && install -d -o tesslate /var/lib/tesslate/chat-spill
WORKDIR /app
COPY --from=build /venv /venv
COPY manage.py litellm.config.yaml ./
COPY tesslate tesslate
COPY accounts accounts
COPY plans plans
COPY llmkeys llmkeys
COPY chatproxy chatproxy
COPY templates templates
COPY static static
# Collecting static files needs settings that load, not settings that are true.
RUN SECRET_KEY=build-build-build-build-build-build-build-build-build PUBLIC_URL=https://build ALLOWED_HOSTS=build \
    DATABASE_URL=postgresql://build/build REDIS_URL=redis://build \
    ENCRYPTION_KEYS="$(python -c 'from cryptography.fernet import Fernet as F; print(F.generate_key().decode())')" \
    LITELLM_URL=http://build LITELLM_MASTER_KEYS=build \
    STRIPE_SECRET_KEY=sk_test_build STRIPE_WEBHOOK_SECRETS=whsec_build \
    FIREBASE_PROJECT_ID=build FIREBASE_API_KEY=build \
    python manage.py collectstatic --noinput && rm -rf /tmp/metrics
USER tesslate
EXPOSE 8000
CMD ["uvicorn", "tesslate.asgi:application", "--host", "0.0.0.0", "--port", "8000", \
     "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--no-server-header", "--proxy-headers", \
     "--timeout-graceful-shutdown", "40"]
