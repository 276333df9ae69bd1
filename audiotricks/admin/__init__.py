from audiotricks.admin import audit, operation, people, schedule

__all__ = ["audit", "operation", "people", "schedule"]
