"""Where manifests come from: a directory, the git work tree around it, or a clone kept here of a repository."""
