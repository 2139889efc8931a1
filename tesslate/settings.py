"""All settings, read from the environment. Every variable is described in .env.example."""

import os
from datetime import timedelta
from pathlib import Path

import django_stubs_ext

from tesslate.lib.env import (
    BadSetting,
    Environment,
    bearer_problem,
    collector_problem,
    fernet_key_problem,
    file_problem,
    host_problem,
    listen_problem,
    name_part_problem,
    origin_problem,
    ratio_problem,
    redis_problem,
    sampler_problem,
    secret_key_problem,
    signing_secret_problem,
    stripe_key_problem,
)
from tesslate.schedule import BEAT_SCHEDULE, TASK_ROUTES
from tesslate.staffroom.navigation import unfold_settings

# Lets annotations such as ModelAdmin[User] and QuerySet[Plan] stand at run time.
django_stubs_ext.monkeypatch()

BASE_DIR = Path(__file__).resolve().parent.parent

# A running `make run` leaves its settings in its data folder, so that manage.py in a second
# terminal speaks to the same databases. A real .env wins.
DATA_DIR = BASE_DIR / os.environ.get("DATA_DIR", ".local")
# ENV_FILE names another file; the tests name none.
env = Environment(Path(os.environ.get("ENV_FILE", BASE_DIR / ".env")), DATA_DIR / "env")

DEBUG = env.local
SECRET_KEY = env.text(
    "SECRET_KEY",
    local_default="local-only-not-a-secret-" + "0" * 32,
    check=None if DEBUG else secret_key_problem,
)
PUBLIC_URL = env.url("PUBLIC_URL", local_default="http://127.0.0.1:8000")
ALLOWED_HOSTS = env.items(
    "ALLOWED_HOSTS", local_default="127.0.0.1,localhost,[::1]", check=host_problem
)
CORS_ALLOWED_ORIGINS = env.items("CORS_ALLOWED_ORIGINS", default="", check=origin_problem)
CORS_ALLOW_CREDENTIALS = True
CORS_ALLOW_HEADERS = [
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "traceparent",
    "x-csrftoken",
    "x-requested-with",
    "x-request-id",
]
CORS_EXPOSE_HEADERS = ["x-request-id", "retry-after", "idempotent-replayed"]
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL, *CORS_ALLOWED_ORIGINS]

# Databases and queues

DATABASES = {
    "default": {
        **env.database(
            "DATABASE_URL", local_default="postgresql://postgres@127.0.0.1:5432/tesslate"
        ),
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        "DISABLE_SERVER_SIDE_CURSORS": env.boolean("DATABASE_BEHIND_PGBOUNCER", default=False),
    }
}
REDIS_URL = env.text("REDIS_URL", local_default="redis://127.0.0.1:6379/0", check=redis_problem)
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "tesslate",
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CELERY_BROKER_URL = REDIS_URL
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A wake-up that cannot be published must fail fast: the sweep finds the work in the database.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": 1,
    "socket_timeout": 5,
    "max_retries": 1,
    "visibility_timeout": 600,
}
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = BEAT_SCHEDULE
CELERY_BEAT_SCHEDULER = "tesslate.scheduler:Scheduler"
CELERY_TASK_ROUTES = TASK_ROUTES

# Encryption at rest: the first key encrypts, all of them decrypt.

ENCRYPTION_KEYS = env.items(
    "ENCRYPTION_KEYS",
    local_default="bG9jYWwtb25seS1ub3QtYS1zZWNyZXQtMDAwMDAwMDA=",
    check=fernet_key_problem,
)

# The gateway

LITELLM_URL = env.url("LITELLM_URL", local_default="http://127.0.0.1:8001")
# Several master keys may be valid while one is being replaced; the first that works is used.
LITELLM_MASTER_KEYS = env.items(
    "LITELLM_MASTER_KEYS", local_default="sk-local-master-key", check=bearer_problem
)
LITELLM_TIMEOUT_SECONDS = env.integer("LITELLM_TIMEOUT_SECONDS", default=10, minimum=1)
# Marks the keys that are ours at a gateway which others may share.
LITELLM_KEY_PREFIX = env.text("LITELLM_KEY_PREFIX", default="tesslate", check=name_part_problem)
# Management calls that one worker process may have under way at the same time.
LITELLM_CONCURRENCY = env.integer("LITELLM_CONCURRENCY", default=8, minimum=1)
# Probes that must all find access gone before we believe it, each on its own connection: several
# gateway processes stand behind one address.
LITELLM_PROBE_REPEATS = env.integer("LITELLM_PROBE_REPEATS", default=2, minimum=1)
# How long old and new key both work after a rotation.
KEY_ROTATION_OVERLAP_HOURS = env.integer("KEY_ROTATION_OVERLAP_HOURS", default=24)
# Keys older than this are rotated by themselves; zero for never.
KEY_MAX_AGE_DAYS = env.integer("KEY_MAX_AGE_DAYS", default=0)
LITELLM_CONFIG_PATH = env.text(
    "LITELLM_CONFIG_PATH", default=str(BASE_DIR / "litellm.config.yaml"), check=file_problem
)

# Stripe

STRIPE_SECRET_KEY = env.text(
    "STRIPE_SECRET_KEY", local_default="sk_test_local", check=stripe_key_problem
)
STRIPE_WEBHOOK_SECRETS = env.items(
    "STRIPE_WEBHOOK_SECRETS", local_default="whsec_local", check=signing_secret_problem
)
STRIPE_WEBHOOK_TOLERANCE_SECONDS = env.integer(
    "STRIPE_WEBHOOK_TOLERANCE_SECONDS", default=300, minimum=1
)
STRIPE_WEBHOOK_MAX_BYTES = env.integer(
    "STRIPE_WEBHOOK_MAX_BYTES", default=1024 * 1024, minimum=1024
)
STRIPE_API_URL = env.url("STRIPE_API_URL", default="https://api.stripe.com")
STRIPE_API_VERSION = "2026-10-28.endive"
# What checkout offers, and whether Stripe Tax adds what is due.
STRIPE_PROMOTION_CODES = env.boolean("STRIPE_PROMOTION_CODES", default=True)
STRIPE_AUTOMATIC_TAX = env.boolean("STRIPE_AUTOMATIC_TAX", default=False)
# An open dispute withdraws access to models, or is only reported to staff.
STRIPE_DISPUTE_POLICY = env.choice("STRIPE_DISPUTE_POLICY", "suspend", "notify", default="suspend")
# Days that the full text of a handled event is kept; it holds personal data.
STRIPE_PAYLOAD_DAYS = env.integer("STRIPE_PAYLOAD_DAYS", default=90, minimum=1)
STRIPE_LIVEMODE = STRIPE_SECRET_KEY.startswith(("sk_live_", "rk_live_"))

# Firebase

FIREBASE_PROJECT_ID = env.text("FIREBASE_PROJECT_ID", local_default="demo-tesslate")
FIREBASE_API_KEY = env.text("FIREBASE_API_KEY", local_default="local-web-api-key")
FIREBASE_AUTH_URL = env.url("FIREBASE_AUTH_URL", default="https://identitytoolkit.googleapis.com")
FIREBASE_TOKEN_URL = env.url("FIREBASE_TOKEN_URL", default="https://securetoken.googleapis.com")
FIREBASE_CERTS_URL = env.url(
    "FIREBASE_CERTS_URL",
    default=(
        "https://www.googleapis.com/robot/v1/metadata/x509/securetoken@system.gserviceaccount.com"
    ),
)
# Only for deleting closed accounts' own accounts there; without it they are left to their holders.
FIREBASE_SERVICE_ACCOUNT_FILE = env.text(
    "FIREBASE_SERVICE_ACCOUNT_FILE", default="", check=file_problem
)
if os.environ.get("FIREBASE_AUTH_EMULATOR_HOST"):
    raise BadSetting(
        "FIREBASE_AUTH_EMULATOR_HOST",
        "must not be set: with it firebase-admin accepts unsigned tokens",
    )

# Django

INSTALLED_APPS = [
    "tesslate.apps.TesslateConfig",
    # Not its default configuration, which would put its own site in the place of ours.
    "unfold.apps.BasicAppConfig",
    "tesslate.staffroom.apps.StaffAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "accounts",
    "plans",
    "llmkeys",
    "chatproxy",
    "axes",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "tesslate.staffroom.apps.StaffroomConfig",
]
MIDDLEWARE = [
    "tesslate.requests.request_log",
    "tesslate.requests.known_host",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "tesslate.csp.PolicyByPath",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "tesslate.urls"
ASGI_APPLICATION = "tesslate.asgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "/sign-in"
# Only the admin uses Django's own sign-in view.
LOGIN_REDIRECT_URL = "/admin/"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
FORMAT_MODULE_PATH = ["tesslate.formats"]
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = BASE_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": (
            "django.contrib.staticfiles.storage.StaticFilesStorage"
            if DEBUG
            else "whitenoise.storage.CompressedManifestStaticFilesStorage"
        )
    },
}
# Locally assets come from where they are; on a server from what collectstatic gathered.
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = DEBUG
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024

# Cookies know hosts, not ports: two copies on one machine tell theirs apart by this.
COOKIE_SUFFIX = env.text("COOKIE_SUFFIX", default="", check=name_part_problem)
SESSION_COOKIE_NAME = f"tesslate_session{COOKIE_SUFFIX}"
SESSION_ENGINE = "accounts.sessions"
SESSION_COOKIE_AGE = 14 * 24 * 3600
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PUBLIC_URL.startswith("https://")
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = env.choice(
    "COOKIE_SAMESITE", "Lax", "Strict", "None", default="Lax"
)
CSRF_COOKIE_NAME = f"tesslate_csrf{COOKIE_SUFFIX}"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = env.boolean("SECURE_SSL_REDIRECT", default=not DEBUG)
# Probes and scrapers inside the private network speak plain HTTP.
SECURE_REDIRECT_EXEMPT = [r"^health", r"^metrics$"]
SECURE_HSTS_SECONDS = 0 if DEBUG else 365 * 24 * 3600
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = not DEBUG
SECURE_REFERRER_POLICY = "strict-origin-when-cross-origin"
X_FRAME_OPTIONS = "DENY"
# tesslate.csp relaxes this for the admin and the API's page.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'", FIREBASE_AUTH_URL, FIREBASE_TOKEN_URL],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'self'"],
        "form-action": ["'self'"],
    }
}

# Staff

STAFF_TWO_FACTOR_REQUIRED = env.boolean("STAFF_TWO_FACTOR_REQUIRED", default=not DEBUG)
OTP_TOTP_ISSUER = "Tesslate staff"
# Five wrong passwords for one name from one address close that door for a while.
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
# Customers sign in at Firebase, which has limits of its own.
AXES_ONLY_ADMIN_SITE = True
AXES_ENABLE_ADMIN = False
# Who signed in when is in the session list and the audit log.
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False
AXES_LOCKOUT_TEMPLATE = "staffroom/locked_out.html"
AXES_CLIENT_IP_CALLABLE = "tesslate.lib.throttling.client_address"
AXES_USERNAME_CALLABLE = "tesslate.staffroom.lockout.login_name"
ENVIRONMENT = env.text("ENVIRONMENT", default="local" if DEBUG else "production")
UNFOLD = unfold_settings(environment=ENVIRONMENT)

# API

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.FirebaseAuthentication",
        "accounts.authentication.CookieAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    # Clients say in Accept what they take; no query parameter changes an answer's kind.
    "URL_FORMAT_OVERRIDE": None,
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "tesslate.errors.exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    # Throttles, the lock-out and the session list take the caller's address from
    # X-Forwarded-For only as far as our own proxies.
    "NUM_PROXIES": env.integer("PROXY_COUNT", default=0 if DEBUG else 1),
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Tesslate API",
    "DESCRIPTION": "Plans, billing, usage and streaming chat in front of a LiteLLM gateway.",
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {"OrganizationRole": "accounts.models.Membership.Role"},
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "tesslate.schema.add_errors",
    ],
}

# Chat

CHAT_MAX_BODY_BYTES = env.integer("CHAT_MAX_BODY_BYTES", default=4 * 1024 * 1024, minimum=1024)
CHAT_CONNECT_TIMEOUT_SECONDS = env.integer("CHAT_CONNECT_TIMEOUT_SECONDS", default=5, minimum=1)
# The gateway's own is 600 s (litellm.config.yaml). With a shorter one here we give answers up that
# it still works on; `check --deploy` warns (tesslate.W001).
CHAT_TIMEOUT_SECONDS = env.integer("CHAT_TIMEOUT_SECONDS", default=600, minimum=1)
CHAT_DRAIN_SECONDS = env.integer("CHAT_DRAIN_SECONDS", default=30)
CHAT_CACHE_SECONDS = env.integer("CHAT_CACHE_SECONDS", default=10)
CHAT_KEEPALIVE_SECONDS = env.integer("CHAT_KEEPALIVE_SECONDS", default=15, minimum=1)
CHAT_WRITE_TIMEOUT_SECONDS = env.integer("CHAT_WRITE_TIMEOUT_SECONDS", default=30, minimum=1)
# Days that the ledger keeps requests, and stored conversations.
CHAT_LEDGER_DAYS = env.integer("CHAT_LEDGER_DAYS", default=400, minimum=1)
CHAT_CONTENT_DAYS = env.integer("CHAT_CONTENT_DAYS", default=30, minimum=1)
# Days that single calls of the gateway's books are kept, whose sums stay for good. Longer than any
# window that is still billed.
USAGE_ENTRY_DAYS = env.integer("USAGE_ENTRY_DAYS", default=400, minimum=70)
# Keep conversations whatever the plan says.
CHAT_STORE_CONTENT = env.boolean("CHAT_STORE_CONTENT", default=False)
# The spend guard: whose last hour cost more than so many times their busiest hour of two weeks, and
# so many percent of the plan's budget, is held to this share of the plan's rates; 100 for no guard.
SPEND_GUARD_FACTOR = env.integer("SPEND_GUARD_FACTOR", default=5, minimum=1)
SPEND_GUARD_BUDGET_PERCENT = env.integer("SPEND_GUARD_BUDGET_PERCENT", default=20, minimum=1)
SPEND_GUARD_PERCENT = env.integer("SPEND_GUARD_PERCENT", default=10, minimum=1, maximum=100)
# Without Valkey nobody can tell whether an idempotency key was used: serve such requests all the
# same, or refuse them.
CHAT_IDEMPOTENCY_FAIL_OPEN = env.boolean("CHAT_IDEMPOTENCY_FAIL_OPEN", default=False)
CHAT_SPILL_DIR = env.text(
    "CHAT_SPILL_DIR", default=str(BASE_DIR / os.environ.get("DATA_DIR", ".local") / "chat-spill")
)

# Customers' webhooks may lead into private networks, and be http: for a laptop alone.
WEBHOOK_ALLOW_PRIVATE = env.boolean("WEBHOOK_ALLOW_PRIVATE", default=DEBUG)

# Operations

METRICS_TOKEN = env.text("METRICS_TOKEN", default="")
# Where worker and beat tell their figures and that they live; the web process has routes for it.
METRICS_LISTEN = env.text("METRICS_LISTEN", default="", check=listen_problem)
if _shared_figures := env.text("PROMETHEUS_MULTIPROC_DIR", default=""):
    # Before any app defines a counter: prometheus_client does not make the folder itself.
    Path(_shared_figures).mkdir(parents=True, exist_ok=True)
LOG_LEVEL = env.choice("LOG_LEVEL", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", default="INFO")
LOG_FORMAT = env.choice("LOG_FORMAT", "text", "json", default="text" if DEBUG else "json")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "text": {"()": "tesslate.logs.TextFormatter"},
        "json": {"()": "tesslate.logs.JsonFormatter"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": LOG_FORMAT,
        }
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        # Django prints its own lines as well, and would mail whole requests to ADMINS.
        "django": {"handlers": [], "level": LOG_LEVEL, "propagate": True},
        # uvicorn gives its loggers handlers of their own, which redact nothing.
        "uvicorn": {"handlers": ["console"], "level": LOG_LEVEL, "propagate": False},
        "uvicorn.error": {"handlers": [], "level": LOG_LEVEL, "propagate": True},
        # The product logs its requests itself (tesslate.requests), without addresses.
        "uvicorn.access": {"handlers": [], "level": LOG_LEVEL, "propagate": False},
        # httpx logs every request line at INFO; the addresses carry key hashes.
        "httpx": {"level": "WARNING"},
        # tesslate.requests logs every answer; what is left to tell is what failed, and why.
        "django.request": {"level": "ERROR"},
        # Sign-ins that worked are in the session list and the audit log.
        "axes": {"level": "WARNING"},
        "stripe": {"level": "WARNING"},
        # While the collector is away each attempt at a batch is a warning, and giving up an error.
        "opentelemetry": {"level": "ERROR"},
    },
}
globals().update(env.email("EMAIL_URL", default="consolemail://" if DEBUG else "dummymail://"))
# Invitations are sent while somebody waits for the page.
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", default="Tesslate <no-reply@localhost>")

# Traces go to an OpenTelemetry collector where an address is given (tesslate.apps starts them); the
# SDK reads what else the OTEL_EXPORTER_OTLP_* variables say.
OTEL_EXPORTER_OTLP_ENDPOINT = env.text(
    "OTEL_EXPORTER_OTLP_ENDPOINT", default="", check=collector_problem
)
# Credentials of the collector among them: kept out of the log.
OTEL_EXPORTER_OTLP_HEADERS = env.text("OTEL_EXPORTER_OTLP_HEADERS", default="")
OTEL_SERVICE_NAME = env.text("OTEL_SERVICE_NAME", default="tesslate")
env.text("OTEL_TRACES_SAMPLER", default="", check=sampler_problem)
env.text("OTEL_TRACES_SAMPLER_ARG", default="", check=ratio_problem)

# Errors go to Sentry where an address is given; off otherwise.
if _sentry_dsn := env.text("SENTRY_DSN", default=""):
    from tesslate import sentry

    sentry.start(
        _sentry_dsn, environment=ENVIRONMENT, release=env.text("SENTRY_RELEASE", default="")
    )
