import sys


def is_cache_error(error: BaseException) -> bool:
    # Redis's client takes a tenth of a second to import, and a vault with the embedded cache never needs it.
    redis = sys.modules.get("redis.exceptions")
    return redis is not None and isinstance(error, redis.RedisError)
