"""All settings, from the environment or ``.env``. Without any: SQLite, local disk and a filesystem broker under
``var/``.
"""

import os
import secrets
import stat
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from corsheaders.defaults import default_headers
from dotenv import load_dotenv

from audiotricks import env
from audiotricks.files import make_once

BASE_DIR = Path(__file__).resolve().parent.parent
load_dotenv(BASE_DIR / ".env")
VAR_DIR = env.path("VAR_DIR", BASE_DIR / "var")


def private_directory(path: Path) -> Path:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise env.ConfigurationError(f"{path} cannot be made: {error.strerror}.") from None
    return path


def private_database(path: Path) -> None:
    """Only its owner may read a new database file; others lose access to an existing one."""
    private_directory(path.parent)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        if (mode := stat.S_IMODE(path.stat().st_mode)) & stat.S_IRWXO:
            path.chmod(mode & ~stat.S_IRWXO)
    except OSError:
        # SQLite reports a fault of the file better, and a reader need not own it.
        return


def secret_key() -> str:
    """SECRET_KEY, or one that is kept in ``var/``."""
    if given := env.text("SECRET_KEY"):
        return given
    path = private_directory(VAR_DIR) / "secret_key"
    try:
        return make_once(path, secrets.token_urlsafe(50))
    except OSError as error:
        raise env.ConfigurationError(f"{path} cannot be used: {error.strerror}. Set SECRET_KEY.") from None


# The web
DEBUG = env.boolean("DEBUG", False)
SECRET_KEY = secret_key()
PORT = env.integer("PORT", 8000, minimum=1, maximum=65535)
WEB_HOST = env.text("WEB_HOST") or "127.0.0.1"
WEB_WORKERS = env.integer("WEB_WORKERS", 1, minimum=1)
WEB_THREADS = env.integer("WEB_THREADS", 32, minimum=1)
WEB_TRANSFERS = env.integer("WEB_TRANSFERS", 64, minimum=1)
REQUEST_SECONDS = env.integer("REQUEST_SECONDS", 30, minimum=1)
TRANSFER_LEAST_BYTES_PER_SECOND = env.integer("TRANSFER_LEAST_BYTES_PER_SECOND", 512)
WEB_GRACEFUL_SECONDS = env.integer("WEB_GRACEFUL_SECONDS", 30, minimum=1)
ALLOWED_HOSTS = env.items("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.items("CSRF_TRUSTED_ORIGINS")
CORS_ALLOWED_ORIGINS = env.items("CORS_ALLOWED_ORIGINS")
CORS_ALLOW_HEADERS = [
    *(*default_headers, "content-digest", "content-disposition", "idempotency-key", "range", "repr-digest"),
    *("tus-resumable", "upload-checksum", "upload-concat", "upload-defer-length", "upload-length", "upload-metadata"),
    *("upload-offset", "x-http-method-override"),
]
CORS_EXPOSE_HEADERS = [
    *("Accept-Ranges", "Content-Disposition", "Content-Location", "Content-Range", "ETag", "Idempotency-Replayed"),
    *("Location", "Retry-After", "X-Request-ID"),
    *("Tus-Checksum-Algorithm", "Tus-Extension", "Tus-Max-Size", "Tus-Resumable", "Tus-Version"),
    *("Upload-Concat", "Upload-Defer-Length", "Upload-Expires", "Upload-Length", "Upload-Metadata", "Upload-Offset"),
]
CORS_URLS_REGEX = r"^/api/"
HTTPS_ONLY = env.boolean("HTTPS_ONLY", False)
BEHIND_PROXY = env.boolean("BEHIND_PROXY", False)
# Peers whose forwarding headers are trusted: addresses or networks, or * where only the proxy can reach us.
FORWARDED_ALLOW_IPS = env.networks("FORWARDED_ALLOW_IPS", ["127.0.0.1", "::1"])
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS_ONLY
SECURE_REDIRECT_EXEMPT = [r"^health$"]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS_ONLY else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.boolean("HSTS_INCLUDE_SUBDOMAINS", False)
SECURE_HSTS_PRELOAD = env.boolean("HSTS_PRELOAD", False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
SESSION_COOKIE_HTTPONLY = True
X_FRAME_OPTIONS = "DENY"
CSRF_FAILURE_VIEW = "audiotricks.web.problems.csrf_failure"
ROOT_URLCONF = "audiotricks.urls"
WSGI_APPLICATION = "audiotricks.wsgi.application"
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "files"
LOGOUT_REDIRECT_URL = "sign-in"

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.forms",
    "corsheaders",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "knox",
    "django_celery_beat",
    # Ours, in the order in which their declarations are shown (audiotricks.plug).
    "uploads",
    "quotas",
    "accounts",
    "audiotricks",
    "media",
    "objectstore",
]

MIDDLEWARE = [
    "audiotricks.web.middleware.ClientAddressMiddleware",
    "audiotricks.web.middleware.RequestLogMiddleware",
    "audiotricks.web.middleware.DefaultHeadersMiddleware",
    "accounts.middleware.AuditMiddleware",
    "audiotricks.web.middleware.RequestGuardMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "audiotricks.web.middleware.TimeZoneMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "audiotricks.web.middleware.PrivateResponseMiddleware",
    "audiotricks.web.middleware.ProblemPageMiddleware",
]

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
                "django.template.context_processors.i18n",
            ],
        },
    }
]
FORM_RENDERER = "audiotricks.web.forms.FieldRenderer"

# The database
DATABASE_URL = env.text("DATABASE_URL", f"sqlite:///{VAR_DIR / 'audiotricks.sqlite3'}")
DATABASE_POOL_SIZE = env.integer("DATABASE_POOL_SIZE", 20, minimum=1)
try:
    DATABASES = {"default": dj_database_url.parse(DATABASE_URL)}
except (ValueError, dj_database_url.ParseError, dj_database_url.UnknownSchemeError) as error:
    raise env.ConfigurationError(f"DATABASE_URL cannot be used: {error}") from None
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    if (name := str(DATABASES["default"]["NAME"])) != ":memory:":
        private_database(Path(name))
    # Opening it costs as much as several queries.
    DATABASES["default"]["CONN_MAX_AGE"] = 60
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL",
    }
elif DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    # Workers fork and must not inherit a pool: audiotricks.celery removes it.
    DATABASES["default"].setdefault("OPTIONS", {})["pool"] = {
        "min_size": 1,
        "max_size": DATABASE_POOL_SIZE,
        # Seconds that a request waits for a connection before it is refused.
        "timeout": 5,
        # Seconds of retries for a lost connection, with growing pauses; later requests start anew.
        "reconnect_timeout": 5,
    }
else:
    raise env.ConfigurationError("DATABASE_URL must begin with postgresql:// or sqlite://.")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.text("REDIS_URL")
CACHES: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        # A hanging Redis must not block a request.
        "OPTIONS": {"socket_connect_timeout": 2, "socket_timeout": 2},
    }
    if REDIS_URL
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
}

# Users and tokens
AUTHENTICATION_BACKENDS = ["accounts.authentication.PasswordBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
TOKEN_DAYS = env.integer("TOKEN_DAYS", 90, minimum=1, maximum=36_500)
PASSWORD_RESET_TIMEOUT = 86_400
# Tokens are rows of api_tokens; the package's own table is never created.
KNOX_TOKEN_MODEL = "audiotricks.ApiToken"  # noqa: S105 - the name of a model
MIGRATION_MODULES = {"knox": None}
REST_KNOX = {"AUTH_HEADER_PREFIX": "Bearer", "TOKEN_TTL": timedelta(days=TOKEN_DAYS)}

# Mail, for forgotten passwords only. Without a server, the pages name a contact
EMAIL_HOST = env.text("EMAIL_HOST")
EMAIL_PORT = env.integer("EMAIL_PORT", 587, minimum=1, maximum=65535)
EMAIL_HOST_USER = env.text("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env.text("EMAIL_HOST_PASSWORD")
EMAIL_SECURITY = env.choice("EMAIL_SECURITY", "starttls", ["starttls", "tls", "none"])
EMAIL_USE_TLS = EMAIL_SECURITY == "starttls"
EMAIL_USE_SSL = EMAIL_SECURITY == "tls"
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.text("EMAIL_FROM") or "AudioTricks <audiotricks@localhost>"

# The API
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["audiotricks.api.views.JSONParser"],
    "DEFAULT_PAGINATION_CLASS": "audiotricks.api.views.CursorPagination",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "audiotricks.api.schema.ProblemAutoSchema",
    "DEFAULT_THROTTLE_CLASSES": [
        "audiotricks.api.throttles.AnonRateThrottle",
        "audiotricks.api.throttles.UserRateThrottle",
        "audiotricks.api.throttles.ScopedRateThrottle",
    ],
    "DEFAULT_THROTTLE_RATES": {
        "anon": env.text("THROTTLE_ANONYMOUS", "240/min"),
        "user": env.text("THROTTLE_USER", "6000/min"),
        "sign-in": env.text("THROTTLE_SIGN_IN", "20/min"),
    },
    "EXCEPTION_HANDLER": "audiotricks.web.problems.problem_response",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    # ClientAddressMiddleware has replaced the peer's address by the client's.
    "NUM_PROXIES": 0,
    "COERCE_DECIMAL_TO_STRING": False,
    # Some of our addresses have a parameter `?format=`.
    "URL_FORMAT_OVERRIDE": None,
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "AudioTricks",
    "DESCRIPTION": "A self-hosted vault for audio.",
    "VERSION": "1.0.0",
    "DEFAULT_GENERATOR_CLASS": "audiotricks.api.schema.EnglishSchemaGenerator",
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {"StatusEnum": "uploads.models.Status"},
}
# Retention of audit events; shorter for failed sign-ins and refused tokens, which strangers can cause
AUDIT_DAYS = env.integer("AUDIT_DAYS", 365, minimum=2, maximum=36_500)
AUDIT_REFUSALS_DAYS = env.integer("AUDIT_REFUSALS_DAYS", 30, minimum=2, maximum=36_500)
IDEMPOTENCY_CLAIM_SECONDS = env.integer("IDEMPOTENCY_CLAIM_SECONDS", 900, minimum=1)
IDEMPOTENCY_KEEP_HOURS = env.integer("IDEMPOTENCY_KEEP_HOURS", 24, minimum=1)

# Static files
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
with suppress(OSError):
    # Until collectstatic fills it, the finders serve; WhiteNoise warns of a missing folder.
    STATIC_ROOT.mkdir(exist_ok=True)
STATICFILES_DIRS = [BASE_DIR / "audiotricks" / "static"]
WHITENOISE_USE_FINDERS = True

# The admin
ICON_URL = f"/{STATIC_URL}audiotricks/icon.svg"
UNFOLD = {
    "SITE_TITLE": "AudioTricks",
    "SITE_HEADER": "AudioTricks",
    "SITE_ICON": ICON_URL,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": ICON_URL}],
    "STYLES": [f"/{STATIC_URL}audiotricks/admin.css"],
    "SHOW_LANGUAGES": True,
    "DASHBOARD_CALLBACK": "audiotricks.admin.site.dashboard",
    "SIDEBAR": {"navigation": "audiotricks.admin.site.navigation"},
    # Shades of the pages' blue in even steps; 600 on white and 500 on the dark ground have a contrast of 4.5 to 1.
    "COLORS": {
        "primary": {
            "50": "oklch(97% .014 258)",
            "100": "oklch(94% .03 258)",
            "200": "oklch(88.5% .058 258)",
            "300": "oklch(81% .098 258)",
            "400": "oklch(71.5% .145 258)",
            "500": "oklch(61.5% .165 258)",
            "600": "oklch(49.5% .164 258)",
            "700": "oklch(43% .143 258)",
            "800": "oklch(37.5% .12 258)",
            "900": "oklch(32.5% .095 259)",
            "950": "oklch(24% .07 260)",
        }
    },
}

# Storages. Every configured one can be read; AUDIO_STORAGE is the one for new files
AUDIO_STORAGE = env.choice("AUDIO_STORAGE", "local", ["local", "s3", "gcs", "azure"])
AUDIO_STORAGE_PATH = env.path("AUDIO_STORAGE_PATH", VAR_DIR / "audio")
AUDIO_STORAGE_LAYOUT = env.choice("AUDIO_STORAGE_LAYOUT", "by-id", ["by-id", "by-user-date"])
AUDIO_STORAGE_PREFIX = env.text("AUDIO_STORAGE_PREFIX").strip().strip("/")
TEMP_AUDIO_DIR = env.path("TEMP_AUDIO_DIR", VAR_DIR / "tmp")
STORAGE_RETRY = env.choice("STORAGE_RETRY", "conservative", ["conservative", "aggressive", "patient"])
STORAGE_TIMEOUT_SECONDS = env.integer("STORAGE_TIMEOUT_SECONDS", 60, minimum=1)
STORAGE_PART_BYTES = env.integer("STORAGE_PART_BYTES", 8 * 1024**2, minimum=5 * 1024**2, maximum=1024**3)
STORAGE_PARALLEL_PARTS = env.integer("STORAGE_PARALLEL_PARTS", 4, minimum=1, maximum=64)
DOWNLOAD_REDIRECTS = env.boolean("DOWNLOAD_REDIRECTS", True)
SIGNED_URL_SECONDS = env.integer("SIGNED_URL_SECONDS", 900, minimum=10, maximum=604_800)
DIRECT_UPLOAD_SECONDS = env.integer("DIRECT_UPLOAD_SECONDS", 86_400, minimum=60, maximum=604_800)
UPLOAD_SESSION_SECONDS = env.integer("UPLOAD_SESSION_SECONDS", 86_400, minimum=60, maximum=518_400)
STORAGE_PURGE_VERSIONS = env.boolean("STORAGE_PURGE_VERSIONS", False)
DISK_WARNING_BYTES = env.integer("DISK_WARNING_BYTES", 1_000_000_000)
DISK_RESERVE_BYTES = env.integer("DISK_RESERVE_BYTES", 10_000_000)
STORAGES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "local": {"BACKEND": "objectstore.local.LocalStorage", "OPTIONS": {"location": AUDIO_STORAGE_PATH}},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}

# Amazon S3 and compatible servers. Without keys, boto3 uses its usual places
AWS_STORAGE_BUCKET_NAME = env.text("AWS_STORAGE_BUCKET_NAME")
AWS_ACCESS_KEY_ID = env.text("AWS_ACCESS_KEY_ID")
AWS_SECRET_ACCESS_KEY = env.text("AWS_SECRET_ACCESS_KEY")
AWS_S3_REGION_NAME = env.text("AWS_S3_REGION_NAME")
AWS_S3_ENDPOINT_URL = env.text("AWS_S3_ENDPOINT_URL")
# The same endpoint for browsers and clients.
AWS_S3_PUBLIC_ENDPOINT_URL = env.text("AWS_S3_PUBLIC_ENDPOINT_URL")
AWS_S3_ADDRESSING_STYLE = env.choice("AWS_S3_ADDRESSING_STYLE", "auto", ["auto", "path", "virtual"])
AWS_S3_ENCRYPTION = env.choice("AWS_S3_ENCRYPTION", "AES256", ["AES256", "aws:kms", "bucket", "none"])
AWS_S3_KMS_KEY_ID = env.text("AWS_S3_KMS_KEY_ID")
AWS_S3_STORAGE_CLASS = env.text("AWS_S3_STORAGE_CLASS")
AWS_S3_REQUEST_CHECKSUM = env.choice("AWS_S3_REQUEST_CHECKSUM", "when_supported", ["when_supported", "when_required"])
AWS_S3_CONDITIONAL_WRITES = env.boolean("AWS_S3_CONDITIONAL_WRITES", True)
if AWS_STORAGE_BUCKET_NAME:
    STORAGES["s3"] = {
        "BACKEND": "objectstore.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": AWS_STORAGE_BUCKET_NAME,
            "location": AUDIO_STORAGE_PREFIX,
            "access_key": AWS_ACCESS_KEY_ID or None,
            "secret_key": AWS_SECRET_ACCESS_KEY or None,
            "region_name": AWS_S3_REGION_NAME or None,
            "endpoint_url": AWS_S3_ENDPOINT_URL or None,
            "public_endpoint_url": AWS_S3_PUBLIC_ENDPOINT_URL or None,
            "addressing_style": AWS_S3_ADDRESSING_STYLE,
            "encryption": AWS_S3_ENCRYPTION,
            "kms_key_id": AWS_S3_KMS_KEY_ID,
            "storage_class": AWS_S3_STORAGE_CLASS,
            "request_checksum": AWS_S3_REQUEST_CHECKSUM,
            "conditional_writes": AWS_S3_CONDITIONAL_WRITES,
            "purge_versions": STORAGE_PURGE_VERSIONS,
        },
    }

# Google Cloud Storage. Credentials are found as Google's libraries find them
GCS_BUCKET_NAME = env.text("GCS_BUCKET_NAME")
GCS_PROJECT_ID = env.text("GCS_PROJECT_ID")
GOOGLE_APPLICATION_CREDENTIALS = env.text("GOOGLE_APPLICATION_CREDENTIALS")
GCS_REGION = env.text("GCS_REGION")
# An emulator, which is asked without credentials, or a private endpoint.
GCS_ENDPOINT_URL = env.text("GCS_ENDPOINT_URL") or env.text("STORAGE_EMULATOR_HOST")
GCS_KMS_KEY_NAME = env.text("GCS_KMS_KEY_NAME")
GCS_STORAGE_CLASS = env.text("GCS_STORAGE_CLASS")
if GCS_BUCKET_NAME:
    STORAGES["gcs"] = {
        "BACKEND": "objectstore.gcs.GCSStorage",
        "OPTIONS": {
            "bucket_name": GCS_BUCKET_NAME,
            "location": AUDIO_STORAGE_PREFIX,
            "project_id": GCS_PROJECT_ID or None,
            "credentials_file": GOOGLE_APPLICATION_CREDENTIALS,
            "region": GCS_REGION,
            "endpoint_url": GCS_ENDPOINT_URL,
            "kms_key_name": GCS_KMS_KEY_NAME,
            "storage_class": GCS_STORAGE_CLASS,
            "purge_versions": STORAGE_PURGE_VERSIONS,
        },
    }

# Azure Blob Storage. Without a key, azure-identity looks for credentials
AZURE_CONTAINER = env.text("AZURE_CONTAINER")
AZURE_ACCOUNT_NAME = env.text("AZURE_ACCOUNT_NAME")
AZURE_ACCOUNT_KEY = env.text("AZURE_ACCOUNT_KEY")
# All of the above in one line, from Azure; or a shared access signature, which cannot sign URLs.
AZURE_CONNECTION_STRING = env.text("AZURE_CONNECTION_STRING")
AZURE_SAS_TOKEN = env.text("AZURE_SAS_TOKEN")
AZURE_REGION = env.text("AZURE_REGION")
AZURE_ENDPOINT_URL = env.text("AZURE_ENDPOINT_URL")
AZURE_PUBLIC_ENDPOINT_URL = env.text("AZURE_PUBLIC_ENDPOINT_URL")
# The tested version of the protocol; Azure keeps old versions, and emulators lag behind.
AZURE_API_VERSION = env.text("AZURE_API_VERSION", "2024-11-04")
AZURE_ENCRYPTION_SCOPE = env.text("AZURE_ENCRYPTION_SCOPE")
AZURE_ACCESS_TIER = env.text("AZURE_ACCESS_TIER")
# Azure Resource Manager, not the storage itself, changes the rules of an account.
AZURE_SUBSCRIPTION_ID = env.text("AZURE_SUBSCRIPTION_ID")
AZURE_RESOURCE_GROUP = env.text("AZURE_RESOURCE_GROUP")
if AZURE_CONTAINER:
    STORAGES["azure"] = {
        "BACKEND": "objectstore.azure.AzureStorage",
        "OPTIONS": {
            "azure_container": AZURE_CONTAINER,
            "location": AUDIO_STORAGE_PREFIX,
            "account_name": AZURE_ACCOUNT_NAME or None,
            "account_key": AZURE_ACCOUNT_KEY or None,
            "connection_string": AZURE_CONNECTION_STRING or None,
            "sas_token": AZURE_SAS_TOKEN or None,
            "region": AZURE_REGION,
            "endpoint_url": AZURE_ENDPOINT_URL,
            "public_endpoint_url": AZURE_PUBLIC_ENDPOINT_URL,
            "api_version": AZURE_API_VERSION,
            "encryption_scope": AZURE_ENCRYPTION_SCOPE,
            "access_tier": AZURE_ACCESS_TIER,
            "subscription_id": AZURE_SUBSCRIPTION_ID,
            "resource_group": AZURE_RESOURCE_GROUP,
            "purge_versions": STORAGE_PURGE_VERSIONS,
        },
    }

# Our identity and trusted certificates for providers, read by their own libraries; named here to be passed on
VENDORS_VARIABLES = {
    "AWS_CA_BUNDLE": env.text("AWS_CA_BUNDLE"),
    "AWS_PROFILE": env.text("AWS_PROFILE"),
    "AWS_REGION": env.text("AWS_REGION"),
    "AWS_ROLE_ARN": env.text("AWS_ROLE_ARN"),
    "AWS_ROLE_SESSION_NAME": env.text("AWS_ROLE_SESSION_NAME"),
    "AWS_SESSION_TOKEN": env.text("AWS_SESSION_TOKEN"),
    "AWS_SHARED_CREDENTIALS_FILE": env.text("AWS_SHARED_CREDENTIALS_FILE"),
    "AWS_CONFIG_FILE": env.text("AWS_CONFIG_FILE"),
    "AWS_WEB_IDENTITY_TOKEN_FILE": env.text("AWS_WEB_IDENTITY_TOKEN_FILE"),
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": env.text("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": env.text("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": env.text("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
    "AZURE_AUTHORITY_HOST": env.text("AZURE_AUTHORITY_HOST"),
    "AZURE_CLIENT_CERTIFICATE_PATH": env.text("AZURE_CLIENT_CERTIFICATE_PATH"),
    "AZURE_CLIENT_ID": env.text("AZURE_CLIENT_ID"),
    "AZURE_CLIENT_SECRET": env.text("AZURE_CLIENT_SECRET"),
    "AZURE_FEDERATED_TOKEN_FILE": env.text("AZURE_FEDERATED_TOKEN_FILE"),
    "AZURE_TENANT_ID": env.text("AZURE_TENANT_ID"),
    "GOOGLE_CLOUD_PROJECT": env.text("GOOGLE_CLOUD_PROJECT"),
    "HTTPS_PROXY": env.text("HTTPS_PROXY"),
    "NO_PROXY": env.text("NO_PROXY"),
    "REQUESTS_CA_BUNDLE": env.text("REQUESTS_CA_BUNDLE"),
    "SSL_CERT_FILE": env.text("SSL_CERT_FILE"),
}

# Limits of a workspace without a quota row; None is unlimited
DEFAULT_MAX_STORAGE_BYTES = env.limit("DEFAULT_MAX_STORAGE_BYTES", 100 * 1024**3)
DEFAULT_MAX_FILE_COUNT = env.limit("DEFAULT_MAX_FILE_COUNT", 100_000)
DEFAULT_MAX_FILE_SIZE = env.limit("DEFAULT_MAX_FILE_SIZE", 20 * 1024**3)
DEFAULT_MAX_MONTHLY_UPLOADS = env.limit("DEFAULT_MAX_MONTHLY_UPLOADS", None)
DEFAULT_MAX_MONTHLY_UPLOAD_BYTES = env.limit("DEFAULT_MAX_MONTHLY_UPLOAD_BYTES", None)
DEMO_ACCOUNTS = env.boolean("DEMO_ACCOUNTS", True)
MAX_OWNED_WORKSPACES = env.limit("MAX_OWNED_WORKSPACES", 20)

# The life of a file
PROCESSING_CLAIM_SECONDS = env.integer("PROCESSING_CLAIM_SECONDS", 60, minimum=5)
PROCESSING_TIME_LIMIT_SECONDS = env.integer("PROCESSING_TIME_LIMIT_SECONDS", 3600, minimum=10)
MEDIA_MEMORY_BYTES = env.integer("MEDIA_MEMORY_BYTES", 2 * 1024**3, minimum=256 * 1024**2)
MEDIA_TIME_LIMIT_SECONDS = env.integer("MEDIA_TIME_LIMIT_SECONDS", 60, minimum=1)
PICTURE_WAIT_SECONDS = env.integer("PICTURE_WAIT_SECONDS", 5, minimum=0)
UPLOAD_STALL_SECONDS = env.integer("UPLOAD_STALL_SECONDS", 60, minimum=1)
RESERVATION_SECONDS = env.integer("RESERVATION_SECONDS", 900, minimum=30)
LINK_SECONDS = env.integer("LINK_SECONDS", 3600, minimum=60, maximum=604_800)
TRASH_DAYS = env.integer("TRASH_DAYS", 30, maximum=36_500)
# A fraction of the quota; beyond it, the files that were deleted first are purged.
TRASH_MAX_FRACTION = env.fraction("TRASH_MAX_FRACTION", 1.0)
ORPHAN_GRACE_HOURS = env.integer("ORPHAN_GRACE_HOURS", 24, minimum=1)
RETENTION_MAX_FRACTION = env.fraction("RETENTION_MAX_FRACTION", 0.5)
RETENTION_MIN_COUNT = env.integer("RETENTION_MIN_COUNT", 20)

# Tasks
CELERY_BROKER_URL = env.text("CELERY_BROKER_URL") or REDIS_URL or "filesystem://localhost"
CELERY_BROKER_IS_EMBEDDED = urlsplit(CELERY_BROKER_URL).scheme == "filesystem"
CELERY_TASK_SOFT_TIME_LIMIT = PROCESSING_TIME_LIMIT_SECONDS
CELERY_TASK_TIME_LIMIT = CELERY_TASK_SOFT_TIME_LIMIT + 60
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, object]
if CELERY_BROKER_IS_EMBEDDED:
    BROKER_DIR = VAR_DIR / "broker"
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(private_directory(BROKER_DIR / "queue")),
        "data_folder_out": str(BROKER_DIR / "queue"),
        "control_folder": str(private_directory(BROKER_DIR / "control")),
        # Seconds between two looks into the folder; with kombu's 1.0, a small file would mostly wait.
        "polling_interval": 0.2,
    }
else:
    # One short attempt: a dead broker must not hold a request, and the sweep sends again.
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "visibility_timeout": 2 * CELERY_TASK_TIME_LIMIT,
        "max_retries": 0,
        "socket_connect_timeout": 2,
        "socket_timeout": 5,
    }
CELERY_BROKER_CONNECTION_TIMEOUT = 2
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
# No clean-up task of beat's own, since there are no results.
CELERY_RESULT_EXPIRES = None
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_MAX_MEMORY_PER_CHILD = 1_000_000
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "audiotricks.running.beat:Scheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 10
SWEEP_SECONDS = env.integer("SWEEP_SECONDS", 60, minimum=5)
WORKER_SEEN_SECONDS = env.integer("WORKER_SEEN_SECONDS", 90, minimum=10)

# audiotricks.running.logs sets up logging for web, worker, beat and commands
LOG_LEVEL = env.choice("LOG_LEVEL", "INFO", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
LOG_FORMAT = env.choice("LOG_FORMAT", "text" if sys.stderr.isatty() else "json", ["json", "text"])
LOGGING_CONFIG = "audiotricks.running.logs.configure"
LOGGING = {"level": LOG_LEVEL, "format": LOG_FORMAT}

# Languages
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LANGUAGE_CODE = env.choice("DEFAULT_LANGUAGE", "en", [code for code, _ in LANGUAGES])
LOCALE_PATHS = [BASE_DIR / "locale"]
# A browser's own time zone takes precedence.
TIME_ZONE = env.time_zone("DEFAULT_TIME_ZONE", "UTC")
USE_TZ = True

# Bodies: streaming views read theirs as it arrives; these limits apply to all others
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024**2
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000
DATA_UPLOAD_MAX_NUMBER_FILES = 0
