"""The only place that touches storage: sessions, files, tables, the training feed, bundles, reports."""
