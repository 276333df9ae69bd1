from quotas.admin import people, rows, workspaces

__all__ = ["people", "rows", "workspaces"]
