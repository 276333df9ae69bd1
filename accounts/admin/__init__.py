from accounts.admin import audit, people

__all__ = ["audit", "people"]
