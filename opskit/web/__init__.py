"""Pages and a REST API over the metastore. What a person may change stands in `changes/`, once for both."""
