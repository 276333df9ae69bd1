raise ImportError("not installed, as in production")
