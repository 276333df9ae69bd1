from audiotricks.admin import operation, people, schedule

__all__ = ["operation", "people", "schedule"]
