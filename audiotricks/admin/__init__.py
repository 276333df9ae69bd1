from audiotricks.admin import operation, people

__all__ = ["operation", "people"]
