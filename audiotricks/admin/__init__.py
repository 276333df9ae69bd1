from audiotricks.admin import operation, schedule

__all__ = ["operation", "schedule"]
