from uploads.admin import bulk, files, records, vault

__all__ = ["bulk", "files", "records", "vault"]
