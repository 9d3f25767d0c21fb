"""The wire to OCI and Docker v2 registries: names to manifests, manifests to verified bytes, credentials to tokens."""
