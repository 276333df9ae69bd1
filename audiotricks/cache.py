import sys


def is_cache_error(error: BaseException) -> bool:
    # Importing Redis's client takes 0.1 s, and the embedded cache does not need it.
    redis = sys.modules.get("redis.exceptions")
    return redis is not None and isinstance(error, redis.RedisError)
