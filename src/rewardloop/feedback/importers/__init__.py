"""One small file per feedback format; each registers itself with ``base.importer``."""
