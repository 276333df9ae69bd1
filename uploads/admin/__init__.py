from uploads.admin import bulk, files, records

__all__ = ["bulk", "files", "records"]
